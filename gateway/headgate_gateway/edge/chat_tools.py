"""Tools in a chat request: what is offered, what was called, and which call is wanted."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

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
