"""A Jinja environment in which no template can take much time or memory.

Jinja's sandbox keeps a template away from Python's insides, but lets it loop and multiply as it
likes. Here every loop and macro pays for the nodes in its body, and every value that can grow is
weighed before it is made, all out of one budget per rendering.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes, pass_context
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headgate_api.errors import TerminalError
from headgate_policy.chat import WEIGHT, ConversationRefused, TemplateInvalid
from headgate_policy.neutral import neutral

STEPS: Final = 2_000_000
"""Nodes of the template that one rendering may run: about a second at the very worst."""
ELEMENT: Final = 64
"""What a number, a list or an object weighs, beside what is in it."""
LONGEST_RANGE: Final = 10_000

BUDGET: Final = "headgate budget"
"""Where a rendering's budget lies in the context: no template can spell a name with a space."""

FILTERS: Final = frozenset({
    "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join",
    "last", "length", "list", "lower", "map", "reject", "rejectattr", "replace", "safe", "select",
    "selectattr", "string", "title", "tojson", "trim", "unique", "upper",
})  # fmt: skip
STR_METHODS: Final = frozenset({
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "isspace",
    "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title",
    "upper",
})  # fmt: skip


class Exhausted(TerminalError):
    """The template asks for more time or memory than a rendering may have."""


class Budget:
    """What one rendering may still spend."""

    def __init__(self) -> None:
        self.steps = STEPS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise Exhausted("the template runs for too long")

    def weigh(self, value: Any) -> int:
        """Count characters and elements as they would be written out, however they are shared."""
        weight, rest = 0, [value]
        while rest:
            item = rest.pop()
            weight += len(item) if isinstance(item, str) else ELEMENT
            if weight > WEIGHT:
                raise Exhausted(f"the template makes a value of more than {WEIGHT} characters")
            if isinstance(item, Mapping):
                rest.extend(item.keys())
                rest.extend(item.values())
            elif isinstance(item, list | tuple):
                rest.extend(item)
        return weight


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compile with `bounded`, render with a `Budget` under the name `BUDGET`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, finalize=_finalize)
        self.add_extension("jinja2.ext.loopcontrols")
        self.filters = {name: f for name, f in self.filters.items() if name in FILTERS}
        self.filters |= {
            "_counted": _counted,
            "_weighed": _weighed,
            "join": _join,
            "replace": _replace,
            "string": _string,
            "tojson": _tojson,
        }
        self.globals = {"namespace": self.globals["namespace"], "range": _range}

    def bounded(self, source: str) -> Template:
        """Compile `source`. Raises `jinja2.TemplateSyntaxError`."""
        tree = self.parse(source)
        _pay(tree)
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in STR_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Leave `str.format` to `is_safe_attribute`, which refuses it: it pads without limit."""

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str) and obj.__name__ == "replace":
            return _replace(context, owner, *args, **kwargs)
        if isinstance(owner, str) and obj.__name__ == "join":
            return _glued(context, list(*args), owner)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _budget(context)
        match operator, left, right:
            case "+", _, _:
                budget.spend(1)
                _fits(budget.weigh(left) + budget.weigh(right))
            case "*", int() | float(), int() | float():
                _fits(abs(left) + abs(right))  # huge integers take long to write out
            case "*", _, _:
                times = max(left if isinstance(left, int) else right, 1)
                _fits(times * budget.weigh(right if isinstance(left, int) else left))
            case "%", str(), _:
                raise Exhausted("use ~ to join text: % on text is not allowed")
            case "**", _, _:
                raise Exhausted("** is not allowed")
            case _:
                pass
        return super().call_binop(context, operator, left, right)


class BoundedTemplate:
    """A compiled template. Raises `TemplateInvalid`: it cannot be compiled."""

    def __init__(self, source: str) -> None:
        try:
            self._template = BoundedEnvironment().bounded(source)
        except TemplateSyntaxError as error:
            raise TemplateInvalid(f"line {error.lineno}: {error.message}") from error
        except (RecursionError, SyntaxError) as error:
            raise TemplateInvalid("the template is nested too deeply") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        now: datetime | None,
    ) -> str:
        """Write a conversation down: see `ChatTemplate.prompt`."""
        told: dict[str, Any] = {} if now is None else {"strftime_now": now.strftime}
        try:
            return self._template.render(
                told,
                messages=neutral(messages),
                tools=neutral(tools),
                add_generation_prompt=True,
                raise_exception=_refuse,
                # The model server's tokenizer adds the first token itself.
                bos_token="",
                eos_token="",
                **{BUDGET: Budget()},
            )
        except (ConversationRefused, TemplateInvalid):
            raise
        except Exhausted as error:
            raise TemplateInvalid(str(error)) from error
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise TemplateInvalid(f"{type(error).__name__}: {error}") from error
        except (AttributeError, RecursionError) as error:
            raise TemplateInvalid(f"{type(error).__name__}: {error}") from error


def _refuse(message: str) -> NoReturn:
    raise ConversationRefused(str(message)[:512])


def _pay(tree: nodes.Template) -> None:
    """Make loops, macros and growing expressions pay when they run."""
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            raise TemplateSyntaxError("recursive loops are not allowed", loop.lineno)
        loop.iter = _filter(loop.iter, "_counted", nodes.Const(_size(loop)))
    macros: list[nodes.Macro | nodes.CallBlock] = [
        *tree.find_all(nodes.Macro),
        *tree.find_all(nodes.CallBlock),
    ]
    for macro in macros:
        price = _filter(nodes.Const(()), "_counted", nodes.Const(_size(macro)))
        macro.body.insert(0, nodes.ExprStmt(_filter(price, "list"), lineno=macro.lineno))
    _replace_nodes(tree)


def _replace_nodes(node: nodes.Node) -> None:
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, field, _growing(value))
        elif isinstance(value, list):
            value[:] = [_growing(v) if isinstance(v, nodes.Node) else v for v in value]


def _growing(node: nodes.Node) -> nodes.Node:
    _replace_nodes(node)
    match node:
        case nodes.Concat():
            return _filter(nodes.List(node.nodes), "join")
        case nodes.List() | nodes.Dict():
            return _filter(node, "_weighed")
        case nodes.Tuple() if node.ctx == "load":
            return _filter(node, "_weighed")
        case _:
            return node


def _filter(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _size(node: nodes.Node) -> int:
    return 1 + sum(map(_size, node.iter_child_nodes()))


def _budget(context: Context) -> Budget:
    budget: Budget = context.parent[BUDGET]
    return budget


def _fits(weight: float) -> None:
    if weight > WEIGHT:
        raise Exhausted(f"the template makes a value of more than {WEIGHT} characters")


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > LONGEST_RANGE:
        raise Exhausted(f"range() is longer than {LONGEST_RANGE}")
    return numbers


@pass_context
def _counted(context: Context, items: Iterable[Any], price: int) -> Iterable[Any]:
    """Take the price of a loop's body for every turn, and once for coming here."""
    budget = _budget(context)
    budget.spend(price)
    if isinstance(items, Undefined):
        return items  # the loop reports it by its name
    taken = list(items)  # `loop.last` and `loop.length` look ahead anyway
    budget.spend(price * len(taken))
    return taken


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    budget = _budget(context)
    budget.spend(1 + budget.weigh(value) // 64)
    return value


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    return _weighed(context, value)


def _glued(context: Context, parts: list[Any], glue: str) -> str:
    budget = _budget(context)
    budget.spend(len(parts))
    _fits(budget.weigh(parts) + len(parts) * len(glue))
    return glue.join(map(str, parts))


@pass_context
def _join(
    context: Context, items: Iterable[Any], glue: str = "", attribute: str | None = None
) -> str:
    parts = list(items)
    if attribute is not None:
        parts = [context.environment.getitem(part, attribute) for part in parts]
    return _glued(context, parts, glue)


@pass_context
def _replace(context: Context, value: Any, old: str, new: str, count: int = -1) -> str:
    text = str(_weighed(context, value))
    _fits(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


@pass_context
def _string(context: Context, value: Any) -> str:
    return str(_weighed(context, value))


@pass_context
def _tojson(
    context: Context, value: Any, indent: int | None = None, ensure_ascii: bool = False
) -> str:
    """Write JSON as templates of checkpoints expect it: not escaped for HTML."""
    indent = None if indent is None else min(indent, 8)
    return json.dumps(_weighed(context, value), indent=indent, ensure_ascii=ensure_ascii)
