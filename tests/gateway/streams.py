"""What a client has read of a stream."""

from dataclasses import dataclass, field
from typing import Any

from .exchanges import Recorded


class Pieces(Recorded):
    """Keeps each write apart."""

    def __init__(self, *more: Any) -> None:
        super().__init__(*more)
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        super().write(data)

    def finish(self, data: bytes = b"") -> None:
        self.pieces.append(data)
        super().finish(data)


@dataclass
class Seen:
    """What a client has read."""

    exchange: Pieces
    texts: list[str] = field(default_factory=list)  # of each chunk
    thoughts: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    finish: str | None = None
    stopped: str | None = None
    usage: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for event in self.exchange.events:
            self.usage = event.get("usage") or self.usage
            self.stopped = event.get("headgate", {}).get("stopped", self.stopped)
            for choice in event.get("choices", ()):
                delta = choice.get("delta", {"content": choice.get("text")})
                self.texts += filter(None, [delta.get("content")])
                self.thoughts += filter(None, [delta.get("reasoning_content")])
                self.calls += [call["function"]["name"] for call in delta.get("tool_calls", ())]
                self.finish = choice["finish_reason"] or self.finish

    @property
    def done(self) -> bool:
        return self.exchange.data.endswith(b"data: [DONE]\n\n")

    @property
    def error(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.exchange.events[-1].get("error")
        return found
