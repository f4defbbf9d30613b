"""How a route gives a stream: in segments, held back until they are whole."""

from typing import Annotated

from pydantic import Field

from headgate_api.base import ApiModel
from headgate_api.snapshot import Boundary, OnUpstreamLoss, StreamingMode
from headgate_api.types import Duration, between


class Streaming(ApiModel):
    """How a stream is given to the client. The defaults are in force where nothing is said."""

    mode: StreamingMode = "Allowed"
    """Allowed: a client that asks for a stream gets the text while it is written. Buffered: it gets
    a valid stream too, but the text only once all of it is there. Refused: it gets an error."""
    boundary: Boundary = "Sentence"
    """Where a segment may end. Sentence: at the end of a sentence, a line or an item of a list, and
    never inside a block of code. Line: at the end of a line. Size: at maxCharacters. Token: nothing
    is held, and each piece of text is given as it comes."""
    max_characters: Annotated[int, Field(ge=16, le=8192)] = 400
    """The longest segment, in characters."""
    max_hold: Annotated[Duration, *between("10ms", "10s")] = Duration("500ms")
    """How long text is held for the rest of its segment."""
    heartbeat: Annotated[Duration, *between("1s", "5m")] = Duration("15s")
    """Silence after which the client gets a comment that says what is waited for."""
    on_upstream_loss: OnUpstreamLoss = "Error"
    """When the model server breaks off in the middle of a stream. Error: the stream ends with an
    error that says that the answer is a part. Continue: another pod writes on from there."""
