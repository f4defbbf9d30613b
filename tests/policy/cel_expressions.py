"""Expressions and features that mean something to any CEL, as hypothesis draws them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from headgate_policy.cel import WHEN

WORDS = (
    *("request.stream", "request.inputTokens", "request.turns", "now.hour", "request.codeShare"),
    *("request.temperature", "tenant.budgetUsed", "request.model", "tenant.name", "user.name"),
    *("request.headers", "request.tools", "request.sources"),
)
HEADERS = frozenset({"x-a", "x-b"})
TEXTS = ("", "a", "ab", "B", "7", "-1.5", "a\u00e9", "\n'\\")
INTS = (0, 1, -1, 2, 7, 6000, 2**62, 2**63 - 1, -(2**63))
DOUBLES = (0.0, 1.0, -0.5, 1.5, 2.0**53, 1e300, 7.0)


def quoted(text: str) -> str:
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n"}
    return f"'{''.join(escapes.get(character, character) for character in text)}'"


@st.composite
def expressions(draw: st.DrawFn, kind: str = "bool", deep: int = 4, item: bool = False) -> str:
    """Draw an expression of a kind. `item`: within a macro, whose variable is a string."""

    def some(kind: str) -> str:
        return draw(expressions(kind, deep - 1, item))

    def one_of(*shapes: Callable[[], str]) -> str:
        return draw(st.sampled_from(shapes))()

    def operator(*signs: str, of: str) -> str:
        sides = f"{some(of)} {draw(st.sampled_from(signs))} {some(of)}"
        # Now and then without parentheses: what binds tighter?
        return f"({sides})" if draw(st.integers(0, 3)) else sides

    def macro(*names: str, body: str) -> str:
        name = draw(st.sampled_from(names))
        return f"{some('list')}.{name}(t, {draw(expressions(body, deep - 1, item=True))})"

    def leaf() -> str:
        match kind:
            case "bool":
                return draw(st.sampled_from(["true", "false", "request.stream"]))
            case "int":
                words = ["request.inputTokens", "request.turns", "now.hour"]
                return draw(st.sampled_from([*words, *map(str, INTS)]))
            case "double":
                words = ["request.codeShare", "request.temperature", "tenant.budgetUsed"]
                return draw(st.sampled_from([*words, *map(str, DOUBLES)]))
            case "string":
                words = ["request.model", "user.name", "request.headers['x-a']", *["t"] * item]
                return draw(st.sampled_from([*words, *map(quoted, TEXTS)]))
            case _:
                return draw(st.sampled_from(["request.tools", "request.sources", "['a', 'ab']"]))

    if deep <= 0:
        return leaf()
    match kind:
        case "bool":
            compared = ("<", "<=", ">", ">=", "==", "!=")
            shapes = [
                leaf,
                lambda: operator("&&", "||", of="bool"),
                lambda: operator("&&", "||", "==", of="bool"),
                lambda: f"!({some('bool')})",
                lambda: operator(*compared, of="int"),
                lambda: operator(*compared, of="double"),
                lambda: operator(*compared, of="string"),
                lambda: f"dyn(request.turns) {draw(st.sampled_from(compared))} {some('double')}",
                lambda: f"dyn(request.codeShare) {draw(st.sampled_from(compared))} {some('int')}",
                lambda: f"{some('string')} in {some('list')}",
                lambda: f"{some('int')} in [1, {some('int')}]",
                lambda: f"{some('list')} == {some('list')}",
                lambda: "'x-b' in request.headers",
                lambda: "has(request.temperature)",
                lambda: f"{some('string')}.contains({some('string')})",
                lambda: f"{some('string')}.startsWith({some('string')})",
                lambda: f"{some('string')}.endsWith({some('string')})",
                lambda: f"{some('string')}.matches(r'^a|[0-9]$')",
                lambda: f"({some('bool')} ? {some('bool')} : {some('bool')})",
                *([] if item else [lambda: macro("all", "exists", "exists_one", body="bool")]),
            ]
        case "int":
            shapes = [
                leaf,
                lambda: operator("+", "-", "*", "/", "%", of="int"),
                lambda: f"-({some('int')})",
                lambda: f"size({some('string')})",
                lambda: f"{some('list')}.size()",
                lambda: f"int({some('double')})",
                lambda: f"int({some('string')})",
                lambda: f"({some('bool')} ? {some('int')} : {some('int')})",
            ]
        case "double":
            shapes = [
                leaf,
                lambda: operator("+", "-", "*", "/", of="double"),
                lambda: f"-({some('double')})",
                lambda: f"double({some('int')})",
                lambda: f"double({some('string')})",
            ]
        case "string":
            shapes = [
                leaf,
                lambda: operator("+", of="string"),
                lambda: f"{some('string')}.lowerAscii()",
                lambda: f"{some('string')}.upperAscii()",
                lambda: f"string({some(draw(st.sampled_from(['int', 'bool', 'string'])))})",
                lambda: f"{some('list')}[{some('int')}]",
            ]
        case _:
            shapes = [leaf]
            if not item:
                shapes += [
                    lambda: macro("filter", body="bool"),
                    lambda: macro("map", body="string"),
                ]
    return one_of(*shapes)


@st.composite
def features(draw: st.DrawFn) -> SimpleNamespace:
    """Draw what a gateway hands over."""
    texts = st.sampled_from(TEXTS)
    lists = st.lists(texts, max_size=3).map(tuple)
    counts = st.sampled_from([0, 1, 2, 7, 6000])
    shares = st.sampled_from([0.0, 0.5, 1.0])
    return SimpleNamespace(
        request_stream=draw(st.booleans()),
        request_inputTokens=draw(counts),
        request_turns=draw(counts),
        now_hour=draw(counts),
        request_codeShare=draw(shares),
        request_temperature=draw(st.none() | shares),
        tenant_budgetUsed=draw(st.none() | shares),
        request_model=draw(texts),
        tenant_name=draw(texts),
        user_name=draw(texts),
        request_headers=draw(st.dictionaries(st.sampled_from(sorted(HEADERS)), texts)),
        request_tools=draw(lists),
        request_sources=draw(lists),
    )


def variables(features: SimpleNamespace) -> dict[str, Any]:
    """Write features as variables of another CEL, the absent ones left out."""
    values = {word: getattr(features, WHEN.words[word].attribute) for word in WORDS}
    return {
        word: list(value) if type(value) is tuple else value
        for word, value in values.items()
        if value is not None
    }
