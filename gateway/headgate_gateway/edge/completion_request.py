"""`POST /v1/completions`: a text to go on with, as it is."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from headgate_gateway.edge.asked import Generation
from headgate_gateway.edge.body_reader import BodyReader, stray_options, unsupported
from headgate_gateway.refusals import Refusal


class CompletionRequest(Generation, kw_only=True):
    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=1)]
    echo: bool | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: None = None

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

    @property
    def texts(self) -> list[str]:
        return [self.text]


NARROW: Final = {
    "n": "1",
    "prompt": "one text, or a list of one text",
    "best_of": "1",
    "logprobs": "",
    "suffix": "",
}
_READER: Final = BodyReader(NARROW, {})
_DECODE: Final = msgspec.json.Decoder(CompletionRequest).decode


def read_completion_request(body: bytes) -> CompletionRequest | Refusal:
    """Read and check a body."""
    asked = _READER.read(_DECODE, body)
    if isinstance(asked, Refusal):
        return asked
    if asked.echo:
        return unsupported("echo", "false")
    return stray_options(asked) or asked
