"""From a chat request to what is asked of its answer's form: tools, JSON, schemas."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headgate_gateway.calls.adapter import Check, Form
from headgate_gateway.calls.filters import is_object
from headgate_gateway.calls.schemas import SchemaInvalid, compiled, decode_flat, fits, quick
from headgate_gateway.edge.body_reader import unsupported
from headgate_gateway.edge.chat_request import ChatRequest, ObjectFormat, SchemaFormat
from headgate_gateway.edge.chat_tools import NamedChoice, Tool
from headgate_gateway.refusals import Code, Refusal
from headgate_policy.tools import Dialect


class Wanted(NamedTuple):
    """What a chat request wants of its answer's form."""

    tools: Sequence[Mapping[str, Any]] = ()  # that the model may call, as templates know them
    form: Form | None = None
    guide: tuple[str, str] | None = None


NOTHING = Wanted()


def schemas_of(chat: ChatRequest) -> list[bytes]:
    """List the schemas that the answer has to keep to."""
    found = [bytes(tool.function.parameters) for tool in chat.tools or () if tool.function.strict]
    if isinstance(chat.response_format, SchemaFormat):
        found.append(bytes(chat.response_format.json_schema.schema_))
    return found


def slow(chat: ChatRequest) -> bool:
    """Say whether compiling the schemas takes too long for the event loop."""
    return not all(map(quick, schemas_of(chat)))


def wanted(chat: ChatRequest, dialect: Dialect | None, *, in_text: bool) -> Wanted | Refusal:
    """Find out what is wanted.

    Args:
        chat: the request.
        dialect: how the model writes calls; None: it knows no tools, as far as we can see.
        in_text: the runtime leaves calls in the text, and knows of no choice among tools.
    """
    tools = tuple(chat.tools or ()) if chat.tool_choice != "none" else ()
    if not tools and chat.response_format is None:
        return NOTHING
    if tools and in_text and dialect is None:
        return unsupported("tools")
    try:
        told = [_told(tool, index) for index, tool in enumerate(tools)]
        arguments = _arguments(tools)
        check, guide = _format(chat)
    except SchemaInvalid as error:
        sentence = f"The schema cannot be used: {error}"
        return Refusal(Code.INVALID_VALUE, 400, sentence, error.param)
    if not tools and check is None:
        return NOTHING
    choice = chat.tool_choice
    name = choice.function.name if isinstance(choice, NamedChoice) else None
    must_call = name is not None or choice == "required"
    said = dialect.opening(name) if dialect is not None and in_text and must_call else ""
    form = Form(
        dialect=dialect if in_text and tools else None,
        offered=(name,) if name is not None else tuple(t.function.name for t in tools),
        most=1 if name is not None or chat.parallel_tool_calls is False else None,
        said=said,
        must_call=must_call,
        arguments=arguments,
        check=check,
        hold=not chat.streams or _strict(chat),
    )
    return Wanted(told, form, None if tools else guide)


def _arguments(tools: tuple[Tool, ...]) -> Mapping[str, Check]:
    checks: dict[str, Check] = {}
    for index, tool in enumerate(tools):
        if tool.function.strict:
            param = f"tools[{index}].function.parameters"
            checks[tool.function.name] = _check(bytes(tool.function.parameters), param)
    return checks


def _format(chat: ChatRequest) -> tuple[Check | None, tuple[str, str] | None]:
    match chat.response_format:
        case ObjectFormat():
            return is_object, ("json", "")
        case SchemaFormat(json_schema):
            schema = bytes(json_schema.schema_)
            return _check(schema, "response_format"), ("json_schema", schema.decode())
        case _:
            return None, None


def _strict(chat: ChatRequest) -> bool:
    wants = chat.response_format
    return isinstance(wants, SchemaFormat) and wants.json_schema.strict is True


def _check(schema: bytes, param: str) -> Check:
    try:
        validator = compiled(schema)
    except SchemaInvalid as error:
        raise SchemaInvalid(str(error), param) from error

    def check(value: Any) -> bool:
        return fits(validator, value)

    return check


def _told(tool: Tool, index: int) -> dict[str, Any]:
    """Write a tool down as chat templates know it."""
    function: dict[str, Any] = {"name": tool.function.name}
    if tool.function.description is not None:
        function["description"] = tool.function.description
    function["parameters"] = decode_flat(bytes(tool.function.parameters))
    if function["parameters"] is None:
        raise SchemaInvalid("it is nested too deeply", f"tools[{index}].function.parameters")
    return {"type": "function", "function": function}
