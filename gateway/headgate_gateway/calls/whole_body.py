"""Answers that are read when all of their body has come: embeddings, in both dialects."""

from abc import abstractmethod

from headgate_gateway.calls.adapter import Reader, Task
from headgate_gateway.calls.events import NO_JSON, Event, Usage
from headgate_gateway.calls.failures import INVALID


class WholeBody(Reader):
    """See `Reader`.

    Args:
        task: what was asked.
        longest: bytes of one answer.
        usage: what is told where the model server does not count.
    """

    def __init__(self, task: Task, longest: int, usage: Usage) -> None:
        super().__init__()
        self._task = task
        self._longest = longest
        self._body = bytearray()
        self._usage = usage

    @property
    def usage(self) -> Usage:
        return self._usage

    def feed(self, piece: bytes) -> tuple[Event, ...]:
        self._body += piece
        return (INVALID,) if len(self._body) > self._longest else ()

    def end(self) -> tuple[Event, ...]:
        try:
            return self._read(bytes(self._body))
        except (KeyError, ValueError, *NO_JSON) as error:
            self.error = f"{type(error).__name__}: {error}"
            return (INVALID,)

    @abstractmethod
    def _read(self, body: bytes) -> tuple[Event, ...]:
        """Read the body. `KeyError`, `ValueError`: it is not what was asked for."""
