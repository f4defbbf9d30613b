"""Tools in a chat request: what is offered, what was called, and which call is wanted."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

from headgate_gateway.refusals import Code, Refusal

NAME: Final = "^[a-zA-Z0-9_-]{1,64}$"


class Function(Struct, forbid_unknown_fields=True, gc=False):
    """A call in an earlier answer."""

    name: str
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True):
    id: str
    function: Function
    type: Literal["function"] = "function"


class OfferedFunction(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=NAME)]
    description: str | None = None
    parameters: Raw = Raw(b"{}")
    """A JSON schema, as the client wrote it."""
    strict: bool | None = None

    @property
    def texts(self) -> list[str]:
        """What the model reads of it."""
        return [self.name, self.description or "", bytes(self.parameters).decode()]


class Tool(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: OfferedFunction


class ChosenFunction(Struct, forbid_unknown_fields=True):
    name: str


class NamedChoice(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: ChosenFunction


def wrong_tools(tools: Sequence[Tool], choice: str | NamedChoice | None) -> Refusal | None:
    """Find what is wrong with tools and the choice among them, taken together."""
    names = [tool.function.name for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            param = f"tools[{index}].function.name"
            return Refusal(Code.INVALID_VALUE, 400, "Two tools have the same name.", param)
    if choice is None or choice == "none":
        return None
    if not names:
        sentence = "'tool_choice' is allowed only together with 'tools'."
        return Refusal(Code.INVALID_VALUE, 400, sentence, "tool_choice")
    if isinstance(choice, NamedChoice) and choice.function.name not in names:
        sentence = "'tool_choice' names a function that is not among 'tools'."
        return Refusal(Code.INVALID_VALUE, 400, sentence, "tool_choice")
    return None
