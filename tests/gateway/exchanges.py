"""An exchange without a network, and what came out of it."""

import json
from collections.abc import Mapping
from typing import Any

from headgate_gateway.edge.exchange import Head


class Recorded:
    """An `Exchange` that keeps what it is told."""

    def __init__(
        self,
        method: str,
        path: str,
        key: str = "",
        body: bytes = b"",
        headers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        given = dict(headers or {})
        if key:
            given[b"authorization"] = b"Bearer " + key.encode()
        self.id = "test-1"
        self.head = Head(method, path, given)
        self.body = body
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.length: int | None = None
        self.data = b""
        self.finished = self.aborted = self.detached = False

    @property
    def started(self) -> bool:
        return self.status != 0

    @property
    def closed(self) -> bool:
        return self.finished or self.aborted

    def detach(self) -> None:
        self.detached = True

    def start(self, status: int, headers: bytes, length: int | None = None) -> None:
        assert not self.started
        self.status, self.length = status, length
        for line in headers.splitlines():
            name, _, value = line.partition(b": ")
            self.headers[name] = value

    @property
    def full(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        assert self.started
        self.data += data

    async def send(self, data: bytes) -> None:
        self.write(data)

    def finish(self, data: bytes = b"") -> None:
        assert self.started
        self.data += data
        self.finished = True
        assert self.length in (None, len(self.data))

    def abort(self) -> None:
        self.aborted = True

    @property
    def events(self) -> list[Any]:
        """The events of a stream but [DONE], or the one body of a plain answer."""
        if self.length is not None:
            return [json.loads(self.data)]
        lines = self.data.split(b"\n\n")
        found = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: {")]
        return [json.loads(line) for line in found]

    @property
    def text(self) -> str:
        choices = [event["choices"][0] for event in self.events if event.get("choices")]
        told = [choice.get("delta", choice.get("message")) for choice in choices]
        return "".join(part.get("content") or "" for part in told)

    @property
    def code(self) -> str | None:
        """Reason code of the error that the answer is, or ends with."""
        error = self.events[-1].get("error") if self.events else None
        return error["code"] if error else None
