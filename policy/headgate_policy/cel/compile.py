"""Terms as Python code, built as a tree: no text of a user is ever read as Python.

Most rules cannot fail, and become what one would write by hand:

    request.inputTokens > 6000 || user.tier == 'premium'
    lambda f: f.request_inputTokens > 6000 or f.user_tier == "premium"

In CEL an error beside `&&` or `||` is forgotten if another side decides. So sides that cannot fail
come first, and one that can comes last; only where several can is it a call.
"""

import ast
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from headgate_policy.cel.functions import HELPERS
from headgate_policy.cel.terms import (
    Apply,
    Choice,
    Constant,
    Has,
    Items,
    Logic,
    Loop,
    Read,
    Term,
    Variable,
    fallible,
)
from headgate_policy.patterns import Pattern

_FEATURES: Final = "f"
_GLOBALS: Final[dict[str, Any]] = {
    "__builtins__": {},
    **{used.__name__: used for used in (all, any, float, len, str, tuple)},
    **{helper.__name__: helper for helper in HELPERS},
}
_ARGUMENTS: Final = ast.arguments([], [ast.arg(_FEATURES)], None, [], [], None, [])
_NO_ARGUMENTS: Final = ast.arguments([], [], None, [], [], None, [])


def compiled(term: Term) -> Callable[[Any], Any]:
    """Build a function from features to the value of `term`. It raises `Failed`."""
    code = _Code()
    body = ast.Lambda(_ARGUMENTS, code.of(term))
    tree = ast.fix_missing_locations(ast.Expression(body))
    made: Callable[[Any], Any] = eval(compile(tree, "<rule>", "eval"), code.globals)  # noqa: S307
    return made


class _Code:
    def __init__(self) -> None:
        self.globals = dict(_GLOBALS)

    def of(self, term: Term) -> ast.expr:  # noqa: PLR0911 - a table
        match term:
            case Constant(value=Pattern() as pattern):
                name = f"pattern_{len(self.globals)}"
                self.globals[name] = pattern
                return _name(name)
            case Constant(value=value):
                return ast.Constant(value)
            case Read(word=word) if word.optional:
                value = ast.Attribute(_name(_FEATURES), word.attribute, ast.Load())
                return _call("given", value, ast.Constant(word.name))
            case Read(word=word):
                return ast.Attribute(_name(_FEATURES), word.attribute, ast.Load())
            case Has(word=word):
                value = ast.Attribute(_name(_FEATURES), word.attribute, ast.Load())
                return ast.Compare(value, [ast.IsNot()], [ast.Constant(None)])
            case Variable(name=variable):
                return _name(_variable(variable))
            case Items(items=items):
                return ast.Tuple([self.of(item) for item in items], ast.Load())
            case Apply(function=function, arguments=(one, Items(items=items))) if (
                function.name == "in" and all(isinstance(item, Constant) for item in items)
            ):
                among: Any = frozenset(item.value for item in items if isinstance(item, Constant))
                return ast.Compare(self.of(one), [ast.In()], [ast.Constant(among)])
            case Apply(function=function, arguments=arguments):
                values = dict(zip("ab", map(self.of, arguments), strict=False))
                filled: ast.expr = _filled(_template(function.python), values)
                return filled
            case Logic():
                return self._logic(term)
            case Choice(condition=asked, yes=yes, no=no):
                return ast.IfExp(self.of(asked), self.of(yes), self.of(no))
            case Loop():
                return self._loop(term)

    def _logic(self, term: Logic) -> ast.expr:
        sides = sorted(term.sides, key=fallible)  # keeps the order otherwise
        doubtful = [side for side in sides if fallible(side)]
        values = [self.of(side) for side in sides]
        if len(doubtful) > 1:
            sure = len(sides) - len(doubtful)
            rest: list[ast.expr] = [ast.Lambda(_NO_ARGUMENTS, value) for value in values[sure:]]
            helper = "all_of" if term.sign == "&&" else "any_of"
            values[sure:] = [_call(helper, ast.Tuple(rest, ast.Load()))]
        if len(values) == 1:
            return values[0]
        return ast.BoolOp(ast.And() if term.sign == "&&" else ast.Or(), values)

    def _loop(self, term: Loop) -> ast.expr:
        body = self.of(term.body)
        variable = ast.Name(_variable(term.variable), ast.Store())
        each = ast.comprehension(variable, self.of(term.items), [], is_async=0)
        if term.macro in ("all", "exists"):
            helper = "all" if term.macro == "all" else "any"
            if fallible(term.body):
                helper, body = f"{helper}_of", ast.Lambda(_NO_ARGUMENTS, body)
            return _call(helper, ast.GeneratorExp(body, [each]))
        if term.macro != "map":  # the items for which the body is true
            each.ifs, body = [body], _name(_variable(term.variable))
        made = _call("tuple", ast.ListComp(body, [each]))
        if term.macro == "exists_one":
            return ast.Compare(_call("len", made), [ast.Eq()], [ast.Constant(1)])
        return made


def _variable(name: str) -> str:
    return f"item_{name}"


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _call(function: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(_name(function), list(arguments), [])


@lru_cache(maxsize=256)
def _template(python: str) -> Any:
    return ast.parse(python, mode="eval").body


def _filled(template: Any, values: dict[str, ast.expr]) -> Any:
    """Copy `template` with expressions in place of the names of its arguments."""
    match template:
        case ast.Name(id=name) if name in values:
            return values[name]
        case list():
            return [_filled(part, values) for part in template]
        case ast.AST():
            fields = {name: _filled(part, values) for name, part in ast.iter_fields(template)}
            return type(template)(**fields)
        case _:
            return template
