"""Tokens as a tree. What the names mean is not asked yet.

Operators are calls like any other, under their sign: `a + b` is `Call("+", (a, b))`. Only `&&` and
`||` have more than two arguments, as CEL means no order by them.
"""

from dataclasses import dataclass, replace
from typing import Final

from headgate_policy.cel.lexer import Token, tokens
from headgate_policy.cel.problems import Refused

LONGEST: Final = 1024
"""Characters of an expression."""

DEEPEST: Final = 32
"""Levels of a tree: everything that walks over it may recurse."""

INT: Final = range(-(2**63), 2**63)

_SIGNS: Final = (("||",), ("&&",), ("<", "<=", ">", ">=", "==", "!=", "in"), ("+", "-"), "*/%")
_LEVELS: Final = {sign: level for level, signs in enumerate(_SIGNS) for sign in signs}
"""The higher the level, the tighter a sign binds."""
_HABITS: Final = {"and": "&&", "or": "||", "not": "!", "True": "true", "False": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A part of an expression: `expression[start:end]`."""

    start: int
    end: int
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Literal(_Node):
    value: bool | int | float | str


@dataclass(frozen=True, slots=True)
class Name(_Node):
    name: str


@dataclass(frozen=True, slots=True)
class Field(_Node):
    of: "Node"
    name: str


@dataclass(frozen=True, slots=True)
class Items(_Node):
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Call(_Node):
    function: str
    arguments: "tuple[Node, ...]"  # of a method the first is what stands before the dot
    at: int  # where the function's name stands
    method: bool = False


Node = Literal | Name | Field | Items | Call


def parse(expression: str) -> Node:
    """Raises `Refused`: this is no expression, it is too long or too deep."""
    if len(expression) > LONGEST:
        raise Refused(LONGEST, f"an expression has at most {LONGEST} characters")
    return _Parser(expression).whole()


class _Parser:
    def __init__(self, expression: str) -> None:
        self._tokens = list(tokens(expression))
        self._next = 0
        self._open = 0  # parentheses and the like around the next token

    def whole(self) -> Node:
        if len(self._tokens) == 1:
            raise Refused(0, "the expression is empty")
        node = self._expression()
        if self._peek.text:
            raise self._unexpected("an operator")
        return node

    def _expression(self) -> Node:
        self._open += 1
        if self._open > DEEPEST:
            raise _too_deep(self._peek.start)
        node = self._binary(0)
        if asked := self._take("?"):
            yes = self._expression()
            self._expect(":")
            no = self._expression()
            node = self._call(asked, "?:", node, yes, no)
        self._open -= 1
        return node

    def _binary(self, lowest: int) -> Node:
        """Read what is joined by signs of a level that is not below `lowest`."""
        node = self._unary()
        while (level := _LEVELS.get(self._peek.text, -1)) >= lowest:
            sign = self._peek
            self._next += 1
            other = self._binary(level + 1)
            if sign.text in ("&&", "||") and isinstance(node, Call) and node.function == sign.text:
                depth = max(node.depth, _deeper(sign.start, other))
                more = (*node.arguments, other)
                node = replace(node, arguments=more, end=other.end, depth=depth)
            else:
                node = self._call(sign, sign.text, node, other)
        return node

    def _unary(self) -> Node:
        signs = []
        while sign := self._take("!", "-"):
            signs.append(sign)
        negative = bool(signs) and signs[-1].text == "-" and self._peek.kind in ("int", "double")
        node = self._member(signs.pop() if negative else None)
        for sign in reversed(signs):
            node = self._call(sign, sign.text, node)
        return node

    def _member(self, minus: Token | None) -> Node:
        node = self._primary(minus)
        while sign := self._take(".", "["):
            if sign.text == "[":
                key = self._expression()
                node = self._call(sign, "[]", node, key, end=self._expect("]").end)
                continue
            name = self._peek
            if name.kind != "name":
                raise self._unexpected("a name")
            self._next += 1
            if self._take("("):
                arguments, end = self._arguments(")")
                node = self._call(name, name.text, node, *arguments, end=end, method=True)
            else:
                depth = _deeper(sign.start, node)
                node = Field(node, name.text, start=node.start, end=name.end, depth=depth)
        return node

    def _primary(self, minus: Token | None) -> Node:
        token = self._peek
        self._next += 1
        match token.kind:
            case "int" | "double" | "string":
                return _literal(token, minus)
            case "name" if token.text in ("true", "false"):
                return Literal(token.text == "true", start=token.start, end=token.end)
            case "name" if token.text in _HABITS:
                raise Refused(token.start, f"there is no {token.text}; write {_HABITS[token.text]}")
            case "name" if token.text != "in":
                if self._take("("):
                    arguments, end = self._arguments(")")
                    return self._call(token, token.text, *arguments, start=token.start, end=end)
                return Name(token.text, start=token.start, end=token.end)
            case "sign" if token.text == "(":
                node = self._expression()
                end = self._expect(")").end
                return replace(node, start=token.start, end=end)
            case "sign" if token.text == "[":
                items, end = self._arguments("]")
                depth = _deeper(token.start, *items)
                return Items(tuple(items), start=token.start, end=end, depth=depth)
        self._next -= 1
        raise self._unexpected("a value")

    def _arguments(self, close: str) -> tuple[list[Node], int]:
        arguments: list[Node] = []
        while not (closed := self._take(close)):
            if arguments:
                self._expect(",", close)
            arguments.append(self._expression())
        return arguments, closed.end

    def _call(
        self,
        at: Token,
        function: str,
        *arguments: Node,
        start: int | None = None,
        end: int | None = None,
        method: bool = False,
    ) -> Call:
        """A call that spans its arguments and its sign, if nothing else is said."""
        starts = [at.start, *(argument.start for argument in arguments)]
        ends = [at.end, *(argument.end for argument in arguments)]
        return Call(
            function,
            arguments,
            at.start,
            method,
            start=min(starts) if start is None else start,
            end=max(ends) if end is None else end,
            depth=_deeper(at.start, *arguments),
        )

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> Token | None:
        token = self._peek
        if token.text not in texts:
            return None
        self._next += 1
        return token

    def _expect(self, text: str, *others: str) -> Token:
        if token := self._take(text):
            return token
        raise self._unexpected(" or ".join((text, *others)))

    def _unexpected(self, wanted: str) -> Refused:
        token = self._peek
        if token.kind == "end":
            return Refused(token.start, f"the expression ends here, where {wanted} is missing")
        if token.text in _HABITS:
            return Refused(token.start, f"there is no {token.text}; write {_HABITS[token.text]}")
        return Refused(token.start, f"{token.text} stands where {wanted} is expected")


def _literal(token: Token, minus: Token | None) -> Literal:
    value = token.value
    if minus and not isinstance(value, str):
        value = -value
    if isinstance(value, int) and value not in INT:
        raise Refused(token.start, f"{token.text} is too large for an int")
    return Literal(value, start=minus.start if minus else token.start, end=token.end)


def _deeper(at: int, *inside: Node) -> int:
    depth = 1 + max((node.depth for node in inside), default=0)
    if depth > DEEPEST:
        raise _too_deep(at)
    return depth


def _too_deep(at: int) -> Refused:
    return Refused(at, f"this is nested more than {DEEPEST} levels deep; split it")
