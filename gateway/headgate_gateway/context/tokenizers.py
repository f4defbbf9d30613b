"""Models' own tokenizers: fetched and loaded beside the requests, which never wait for one.

Until a tokenizer is there its model's input is estimated. What is loaded is what the digest in the
ModelDeployment names, wherever it came from.
"""

import asyncio
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

import structlog

from headgate_api.errors import HeadgateError, TerminalError
from headgate_api.snapshot import TokenizerBody
from headgate_gateway.context.counting import Counter

log = structlog.get_logger(__name__)

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a tokenizer.json."""
MOST: Final = 4
"""Tokenizers in memory: a vocabulary of 128k entries takes 70 MB."""
PAUSE: Final = 60.0  # s from a failure to the next try

Load: TypeAlias = Callable[[TokenizerBody], Counter]
"""Gets a tokenizer ready. It waits."""
Fetch: TypeAlias = Callable[[str, int], bytes]
"""Gets what is at a URL, at most so many bytes of it: `Egress.fetch`."""


class Tokenizers:
    """Tokenizers by digest, those used last.

    Args:
        load: runs in a thread.
        clock: s, for pauses between tries.
    """

    def __init__(self, load: Load, clock: Callable[[], float]) -> None:
        self._load = load
        self._clock = clock
        self._ready: dict[str, Counter] = {}  # used last, last
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._again_at: dict[str, float] = {}

    def find(self, wanted: TokenizerBody) -> Counter | None:
        """Return what counts by a tokenizer. None: not yet; it is being seen to."""
        digest = wanted.digest
        counter = self._ready.pop(digest, None)
        if counter is not None:
            self._ready[digest] = counter
            return counter
        now = self._clock()
        if digest not in self._loading and now >= self._again_at.get(digest, now):
            self._again_at = {d: at for d, at in self._again_at.items() if at > now}
            self._again_at[digest] = now + PAUSE  # whatever comes of it
            self._loading[digest] = asyncio.create_task(self._get_ready(wanted))
        return None

    async def settled(self) -> None:
        """Wait until nothing is being loaded."""
        while self._loading:
            await asyncio.wait(self._loading.values())

    async def _get_ready(self, wanted: TokenizerBody) -> None:
        digest = wanted.digest
        try:
            counter = await asyncio.to_thread(self._load, wanted)
        except HeadgateError as error:
            log.warning("tokenizer cannot be used", uri=wanted.uri, error=str(error))
        else:
            log.info("tokenizer loaded", uri=wanted.uri)
            self._again_at.pop(digest, None)
            self._ready[digest] = counter
            while len(self._ready) > MOST:
                del self._ready[next(iter(self._ready))]
        finally:
            del self._loading[digest]


class TokenizerFiles:
    """Where tokenizers come from: files, and what was fetched before.

    Args:
        folder: keeps what was fetched, by digest.
        fetch: gets one from elsewhere.
    """

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        self._folder = folder
        self._fetch = fetch

    def load(self, wanted: TokenizerBody) -> Counter:
        """Read, or fetch, check and load a tokenizer. Raises `HeadgateError`: it cannot be used."""
        try:
            return counter_of(self._content(wanted))
        except OSError as error:
            raise TerminalError(str(error)) from error

    def _content(self, wanted: TokenizerBody) -> bytes:
        parts = urlsplit(wanted.uri)
        if parts.scheme == "file":
            return _checked(_read(Path(unquote(parts.path))), wanted.digest)
        kept = self._folder / f"{wanted.digest.removeprefix('sha256:')}.json"
        if kept.exists():
            return _checked(_read(kept), wanted.digest)
        content = _checked(self._fetch(wanted.uri, LARGEST), wanted.digest)
        self._folder.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(content)
        new.replace(kept)
        return content


def counter_of(content: bytes) -> Counter:
    """Load a tokenizer.json. Raises `TerminalError`: it is none."""
    try:
        # Only who has a model that names one pays for the library: 25 MB.
        from tokenizers import Tokenizer  # noqa: PLC0415
    except ImportError as error:
        raise TerminalError("install headgate[tokenizers]") from error
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library has no class of its own
        raise TerminalError(f"it is no tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    return Counter(count, exact=True)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise TerminalError("there is no such file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise TerminalError(f"it is longer than {LARGEST} bytes")
    return content


def _checked(content: bytes, digest: str) -> bytes:
    if f"sha256:{sha256(content).hexdigest()}" != digest:
        raise TerminalError("its content has another digest")
    return content
