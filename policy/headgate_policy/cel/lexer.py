"""The characters of an expression as tokens."""

import math
import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from headgate_policy.cel.problems import Refused

_TOKEN: Final = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n\f]|//[^\n]*)+)
  | (?P<double>\d+\.\d+(?:[eE][+-]?\d+)? | \.\d+(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+)
  | (?P<int>0[xX][0-9a-fA-F]+ | \d+)
  | (?P<raw>[rR](?: '{3}(?s:.*?)'{3} | "{3}(?s:.*?)"{3} | '[^'\r\n]*' | "[^"\r\n]*"))
  | (?P<string> '{3}(?s:\\.|[^\\])*?'{3} | "{3}(?s:\\.|[^\\])*?"{3}
              | '(?:\\.|[^'\\\r\n])*' | "(?:\\.|[^"\\\r\n])*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]])
    """,
    re.ASCII | re.VERBOSE,
)
_ESCAPE: Final = re.compile(
    r"""\\(?:[xX](?P<byte>[0-9a-fA-F]{2}) | u(?P<short>[0-9a-fA-F]{4})
           | U(?P<long>[0-9a-fA-F]{8}) | (?P<octal>[0-3][0-7]{2}) | (?P<letter>.))""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_LETTERS: Final = {
    **{letter: letter for letter in "\\?\"'`"},
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
}
_REMEDIES: Final = {
    "=": "one = means nothing; write ==",
    "&": "one & means nothing; write &&",
    "|": "one | means nothing; write ||",
    "'": "this string has no end on its line; add the other '",
    '"': 'this string has no end on its line; add the other "',
}


class Token(NamedTuple):
    kind: Literal["double", "int", "string", "name", "sign", "end"]
    text: str  # as it stands there
    start: int
    value: int | float | str = ""  # of a literal

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def tokens(expression: str) -> Iterator[Token]:
    """Read `expression` from left to right; the last token is its end."""
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            sign = expression[at]
            raise Refused(at, _REMEDIES.get(sign, f"{sign!r} has no meaning here"))
        following = expression[found.end() : found.end() + 1]
        text = found[0]
        match found.lastgroup:
            case "double":
                _ends(text, following, at)
                value = float(text)
                if math.isinf(value):
                    raise Refused(at, f"{text} is too large for a double")
                yield Token("double", text, at, value)
            case "int":
                _ends(text, following, at)
                yield Token("int", text, at, int(text, 16 if text[1:2] in ("x", "X") else 10))
            case "raw":
                yield Token("string", text, at, _inside(text[1:]))
            case "string":
                yield Token("string", text, at, _unescaped(text, at))
            case "name":
                if following and following in "'\"":
                    raise Refused(at, f"there are no strings of the kind {text}; leave it out")
                yield Token("name", text, at)
            case "sign":
                yield Token("sign", text, at)
            case _:
                pass
        at = found.end()
    yield Token("end", "", len(expression.rstrip()))


def _ends(text: str, following: str, at: int) -> None:
    if following in ("u", "U"):
        raise Refused(at, f"there are no unsigned numbers; write {text}")
    if following.isalnum() or following == "_":
        raise Refused(at, f"{text}{following} is no number")


def _inside(text: str) -> str:
    quotes = 3 if len(text) >= 6 and text[:3] == text[0] * 3 else 1
    return text[quotes:-quotes]


def _unescaped(text: str, at: int) -> str:
    inside = _inside(text)
    begin = at + (len(text) - len(inside)) // 2

    def character(escape: re.Match[str]) -> str:
        if letter := escape["letter"]:
            if letter not in _LETTERS:
                remedy = r"write \\ for one backslash, or r'...' for a pattern"
                raise Refused(begin + escape.start(), f"{escape[0]} is no escape; {remedy}")
            return _LETTERS[letter]
        digits = escape["byte"] or escape["short"] or escape["long"]
        number = int(digits, 16) if digits else int(escape["octal"], 8)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise Refused(begin + escape.start(), f"{escape[0]} is no character")
        return chr(number)

    return _ESCAPE.sub(character, inside)
