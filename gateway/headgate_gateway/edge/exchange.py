"""What the pipeline knows of a client: a request that is whole, and a way to answer it."""

from typing import Final, Protocol, final

LENGTH: Final = b"content-length"


@final
class Head:
    """A request's head. Query strings carry nothing for us and are cut off."""

    __slots__ = ("headers", "length", "method", "path")

    def __init__(
        self, method: str, path: str, headers: dict[bytes, bytes], length: bytes | None = None
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        """Names in lower case. Repeated ones are joined with a comma, as RFC 9110 reads them.

        Heads that say the same share them: the body's length is not among them."""
        self.length = length  # as the client wrote it; None: it did not

    def get(self, name: bytes) -> bytes | None:
        """Find any header."""
        return self.length if name == LENGTH else self.headers.get(name)


class Exchange(Protocol):
    """One request and its answer: `start`, any number of `send`, then `finish` or `abort`.

    When the client goes away the handler is cancelled, so that whatever it waits for, the model
    server above all, is let go at once. One that calls `detach` runs to its end; what it writes
    from then on reaches nobody.
    """

    id: str
    """Unique in the region; also the answer's `x-request-id`."""
    head: Head
    body: bytes

    @property
    def started(self) -> bool:
        """The status line is decided: an error can only be told inside the answer."""
        ...

    @property
    def closed(self) -> bool:
        """The client is gone, or the answer is complete."""
        ...

    def detach(self) -> None:
        """Go on when the client goes away."""
        ...

    def start(self, status: int, headers: bytes, length: int | None = None) -> None:
        """Decide status and headers. They leave together with the first bytes of the body.

        Args:
            status: HTTP status.
            headers: lines, each with its line end and a name in lower case, without those that
                describe the message itself (length, connection, date).
            length: bytes of the body; None: a stream whose end is marked.
        """
        ...

    @property
    def full(self) -> bool:
        """The client has so much to read that whoever writes should wait, as `send` does."""
        ...

    def write(self, data: bytes) -> None:
        """Write one piece."""
        ...

    async def send(self, data: bytes) -> None:
        """Write one piece; returns when the client has room for more."""
        ...

    def finish(self, data: bytes = b"") -> None:
        """Write the last piece, if any, and end the answer."""
        ...

    def abort(self) -> None:
        """Cut the connection: the client must not take what it has for a whole answer."""
        ...
