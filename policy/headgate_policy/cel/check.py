"""From a tree to terms: what the names mean, and whether the types fit."""

from collections.abc import Collection
from typing import Final

from headgate_policy.cel import parser
from headgate_policy.cel.functions import FUNCTIONS, Function
from headgate_policy.cel.parser import Call, Field, Literal, Name, Node
from headgate_policy.cel.problems import Refused, meant
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
)
from headgate_policy.cel.types import (
    BOOL,
    DOUBLE,
    INT,
    MAP,
    STRING,
    Type,
    comparable,
    fits,
    list_of,
)
from headgate_policy.cel.words import TABLES, Table
from headgate_policy.patterns import PatternUnsupported, pattern

MACROS: Final = ("all", "exists", "exists_one", "filter", "map")
_LITERALS: Final = {bool: BOOL, int: INT, float: DOUBLE, str: STRING}
METHODS: Final = (*MACROS, *sorted({f.name for f in FUNCTIONS if f.method}))
GLOBALS: Final = ("has", *sorted({f.name for f in FUNCTIONS if f.name.isalpha() and not f.method}))


class Checker:
    """Checks one expression, over the words of `table` and the named headers."""

    def __init__(self, expression: str, table: Table, headers: Collection[str]) -> None:
        self._expression = expression
        self._table = table
        self._headers = {header.lower() for header in headers}
        self._variables: dict[str, Type] = {}

    def condition(self, node: Node, wanted: str = "a rule") -> Term:
        """Check what is to be true or false. Raises `Refused`."""
        term = self._term(node)
        if term.type != BOOL:
            raise Refused(node.start, f"{self._is(term)}, {wanted} is a bool")
        return term

    def _term(self, node: Node) -> Term:  # noqa: PLR0911 - a table
        match node:
            case Literal(value=value):
                kind = _LITERALS[type(value)]
                return Constant(value, start=node.start, end=node.end, type=kind)
            case parser.Items():
                return self._items(node)
            case Name() | Field():
                return self._name(node)
            case Call(method=True, function=macro) if macro in MACROS:
                return self._loop(node)
            case Call(method=True):
                return self._function(node)
            case Call(function="&&" | "||" as sign, arguments=sides):
                checked = tuple(self.condition(side, f"each side of {sign}") for side in sides)
                return Logic(sign, checked, start=node.start, end=node.end, type=BOOL)
            case Call(function="?:"):
                return self._choice(node)
            case Call(function="==" | "!="):
                return self._equality(node)
            case Call(function="in"):
                return self._membership(node)
            case Call(function="[]"):
                return self._index(node)
            case Call(function="has"):
                return self._has(node)
            case Call():
                return self._function(node)

    def _name(self, node: Name | Field) -> Term:
        name = _dotted(node)
        if name in self._variables:
            kind = self._variables[name]
            return Variable(name, start=node.start, end=node.end, type=kind)
        if word := self._table.words.get(name):
            return Read(word, start=node.start, end=node.end, type=word.type)
        values = (*self._variables, *self._table.words, "")
        if isinstance(node, Field) and any(name.startswith(f"{value}.") for value in values):
            of = self._term(node.of)
            remedy = f"it has no {node.name}{meant(node.name, METHODS, '()')}"
            if of.type == MAP:
                remedy = f"write {self._shown(of)}['{node.name}']"
            raise Refused(node.start, f"{self._is(of)}; {remedy}")
        raise Refused(node.start, self._unknown(name))

    def _unknown(self, name: str) -> str:
        words = self._table.words
        if parts := [word for word in words if word.startswith(f"{name}.")]:
            return f"{name} is no value; its words are {', '.join(parts)}"
        for table in TABLES:
            if name in table.words:
                return f"{name} has no value in {self._table.field}, only in {table.field}"
        likely = [word for word in words if word.endswith(f".{name}")]
        hint = f"; did you mean {likely[0]}?" if likely else meant(name, words)
        return f"there is no {name}{hint}"

    def _items(self, node: parser.Items) -> Term:
        items = tuple(self._term(item) for item in node.items)
        if not items:
            raise Refused(node.start, "this list is empty; nothing is ever in it")
        for item in items:
            if item.type != items[0].type:
                first = f"{self._shown(items[0])} is {items[0].type.phrase}"
                raise Refused(
                    item.start, f"{self._is(item)}, {first}; a list has items of one type"
                )
        return Items(items, start=node.start, end=node.end, type=list_of(items[0].type))

    def _choice(self, node: Call) -> Term:
        condition = self.condition(node.arguments[0], "what stands before ?")
        yes, no = (self._term(side) for side in node.arguments[1:])
        if yes.type != no.type:
            raise self._unequal(yes, no)
        return Choice(condition, yes, no, start=node.start, end=node.end, type=yes.type)

    def _equality(self, node: Call) -> Term:
        one, other = (self._term(side) for side in node.arguments)
        if not comparable(one.type, other.type):
            raise self._unequal(one, other)
        self._check_value(one, other)
        self._check_value(other, one)
        return self._made(
            node, Function(node.function, (), BOOL, f"a {node.function} b"), one, other
        )

    def _membership(self, node: Call) -> Term:
        one, other = (self._term(side) for side in node.arguments)
        if other.type == MAP:
            self._check_header(one)
        elif other.type.element is None:
            remedy = f"; write {self._shown(other)}.contains(...)" if other.type == STRING else ""
            raise Refused(other.start, f"{self._is(other)}, in takes a list or a map{remedy}")
        elif not comparable(one.type, other.type.element):
            raise self._unequal(one, other)
        for item in other.parts:
            self._check_value(one, item)
        self._check_value(other, one)
        return self._made(node, Function("in", (), BOOL, "a in b"), one, other)

    def _index(self, node: Call) -> Term:
        of, key = (self._term(side) for side in node.arguments)
        if of.type == MAP:
            self._check_header(key)
            value_at = Function("[]", (), STRING, "value_at(a, b)", fallible=True)
            return self._made(node, value_at, of, key)
        if of.type.element is None:
            raise Refused(node.start, f"{self._is(of)}; only lists and maps have [...]")
        if key.type != INT:
            raise Refused(key.start, f"{self._is(key)}; a list's items are counted from 0")
        item_at = Function("[]", (), of.type.element, "item_at(a, b)", fallible=True)
        return self._made(node, item_at, of, key)

    def _has(self, node: Call) -> Term:
        if len(node.arguments) != 1:
            raise Refused(node.at, "has() takes one word")
        term = self._term(node.arguments[0])
        if not isinstance(term, Read):
            remedy = "for a header write 'name' in request.headers"
            raise Refused(term.start, f"{self._shown(term)} is no word; {remedy}")
        if not term.word.optional:
            raise Refused(term.start, f"{term.word.name} always has a value; leave has() out")
        return Has(term.word, start=node.start, end=node.end, type=BOOL)

    def _loop(self, node: Call) -> Term:
        items = self._term(node.arguments[0])
        macro = node.function
        if items.type.name != "list" or items.type.element is None:
            raise Refused(items.start, f"{self._is(items)}; {macro}() goes over a list")
        if self._variables:
            raise Refused(node.at, f"{macro}() stands within another macro; one level is allowed")
        if len(node.arguments) != 3 or not isinstance(node.arguments[1], Name):
            raise Refused(node.at, f"write {macro}(item, expression over item)")
        variable = node.arguments[1]
        if any(word.split(".")[0] == variable.name for word in self._table.words):
            raise Refused(variable.start, f"{variable.name} begins words; choose another name")
        self._variables = {variable.name: items.type.element}
        if macro == "map":
            body = self._term(node.arguments[2])
            kind = list_of(body.type)
        else:
            body = self.condition(node.arguments[2], f"what {macro}() asks")
            kind = items.type if macro == "filter" else BOOL
        self._variables = {}
        return Loop(macro, items, variable.name, body, start=node.start, end=node.end, type=kind)

    def _function(self, node: Call) -> Term:
        named = [function for function in FUNCTIONS if function.name == node.function]
        if not named:
            known = METHODS if node.method else GLOBALS
            hint = meant(node.function, known, "()")
            raise Refused(node.at, f"there is no {node.function}(){hint}")
        forms = [function for function in named if function.method == node.method]
        if not forms:
            form = f"value.{node.function}(...)" if named[0].method else f"{node.function}(value)"
            raise Refused(node.at, f"{node.function}() is written {form}")
        count = len(node.arguments)
        usable = [function for function in forms if len(function.parameters) == count]
        if not usable:
            wanted = len(forms[0].parameters) - node.method  # not what stands before the dot
            raise Refused(node.at, f"{node.function}() takes {_arguments(wanted)}")
        arguments = tuple(self._term(argument) for argument in node.arguments)
        for function in usable:
            if all(map(fits, function.parameters, (argument.type for argument in arguments))):
                if function.name == "matches":
                    arguments = (arguments[0], self._pattern(arguments[1]))
                return self._made(node, function, *arguments)
        raise self._misfit(node, usable, arguments)

    def _pattern(self, term: Term) -> Term:
        if not isinstance(term, Constant):
            raise Refused(term.start, f"{self._shown(term)} is no literal; a pattern is one")
        try:
            compiled = pattern(term.value)
        except PatternUnsupported as unsupported:
            raise Refused(term.start, f"this is no pattern of RE2: {unsupported}") from unsupported
        return Constant(compiled, start=term.start, end=term.end, type=STRING)

    def _check_value(self, of: Term, value: Term) -> None:
        """Refuse a value that `of` never has: a misspelt one would be false for ever."""
        if not (isinstance(of, Read) and of.word.values and isinstance(value, Constant)):
            return
        if value.value not in of.word.values:
            *others, last = of.word.values
            hint = meant(value.value, of.word.values)
            values = f"{', '.join(others)} or {last}"
            message = f"{of.word.name} is {values}, never {self._shown(value)}{hint}"
            raise Refused(value.start, message)

    def _check_header(self, key: Term) -> None:
        if not (isinstance(key, Constant) and isinstance(key.value, str)):
            raise Refused(key.start, f"{self._shown(key)} is no literal string; name one header")
        if key.value != key.value.lower():
            raise Refused(
                key.start, f"header names are lower case here; write '{key.value.lower()}'"
            )
        if key.value not in self._headers:
            raise Refused(key.start, f"matchHeaders does not list {key.value}; add it there")

    def _made(self, node: Call, function: Function, *arguments: Term) -> Apply:
        return Apply(function, arguments, start=node.start, end=node.end, type=function.result)

    def _misfit(self, node: Call, usable: list[Function], arguments: tuple[Term, ...]) -> Refused:
        if len(arguments) == 2 and not node.method:
            return self._unequal(*arguments, sign=node.function)
        for at, argument in enumerate(arguments):
            wanted = dict.fromkeys(used.parameters[at] for used in usable)
            if not any(fits(parameter, argument.type) for parameter in wanted):
                name = node.function if node.function in "!-" else f"{node.function}()"
                kinds = " or ".join(parameter.phrase for parameter in wanted)
                return Refused(argument.start, f"{self._is(argument)}, {name} takes {kinds}")
        raise AssertionError(node)

    def _unequal(self, one: Term, other: Term, sign: str = "") -> Refused:
        """Two sides that do not go together. The place is the literal's, as a rule the mistake."""
        wrong, right = (other, one)
        if isinstance(one, Constant) and not isinstance(other, Constant):
            wrong, right = (one, other)
        message = f"{self._is(wrong)}, {self._is(right)}"
        if one.type == other.type:
            message = f"{self._is(wrong)}; {sign} has no meaning for it"
        elif {one.type, other.type} == {INT, DOUBLE}:
            message += "; write 1.0 for 1, or double(...)"
        return Refused(wrong.start, message)

    def _is(self, term: Term) -> str:
        return f"{self._shown(term)} is {term.type.phrase}"

    def _shown(self, term: Term) -> str:
        text = " ".join(self._expression[term.start : term.end].split())
        return text if len(text) <= 40 else f"{text[:37]}..."


def _arguments(count: int) -> str:
    return {0: "no arguments", 1: "one argument"}.get(count, f"{count} arguments")


def _dotted(node: Node) -> str:
    """Give the name that a node is, dots included. What is no name begins with a dot."""
    if isinstance(node, Name):
        return node.name
    return f"{_dotted(node.of)}.{node.name}" if isinstance(node, Field) else ""
