"""The last good snapshot on the gateway's volume: a start fetches only what has changed since.

Nobody is served by it before the API server has told what is in force. It may be old, and the keys
in it revoked.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from headgate_api.errors import TerminalError
from headgate_api.snapshot import Digest, Pointer
from headgate_policy.snapshot import decode_pointer, digest_of, encode_pointer

log = structlog.get_logger(__name__)

POINTER: Final = "pointer.json"
PAUSE: Final = 1.0  # s from one writing to the next: in a storm of changes only some are kept


class SnapshotFiles:
    """A folder with one pointer and its shards. Every file is whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> tuple[Pointer, dict[Digest, bytes]] | None:
        """Read the snapshot back. None: there is none, or not a whole one."""
        try:
            pointer = decode_pointer((self._folder / POINTER).read_bytes())
            contents = {d: self._shard(d).read_bytes() for d in filter(None, pointer.shards)}
        except (OSError, TerminalError) as error:
            log.info("no snapshot on the volume", error=str(error))
            return None
        if any(digest_of(content) != digest for digest, content in contents.items()):
            log.warning("the snapshot on the volume is damaged")
            return None
        return pointer, contents

    def save(self, pointer: Pointer, contents: Mapping[Digest, bytes]) -> None:
        """Write the new shards, then the pointer, then forget what it no longer lists.

        Args:
            pointer: what is in force now.
            contents: its shards that are not in the folder yet.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for digest, content in contents.items():
            self._write(self._shard(digest), content)
        self._write(self._folder / POINTER, encode_pointer(pointer))
        listed = {f"shard-{digest}.json" for digest in pointer.shards}
        # Plain names: requests wait for this thread, too, while it is busy with Python objects.
        for name in os.listdir(self._folder):
            if name.startswith("shard-") and name not in listed:
                (self._folder / name).unlink(missing_ok=True)

    def _shard(self, digest: Digest) -> Path:
        return self._folder / f"shard-{digest}.json"

    def _write(self, path: Path, content: bytes) -> None:
        half = path.with_name(f".{path.name}.half")
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)


class SnapshotKeeper:
    """Keeps the newest snapshot on the volume, while others go on: a disk may be slow."""

    def __init__(self, files: SnapshotFiles, pause: float = PAUSE) -> None:
        self._files = files
        self._pause = pause
        self._pointer: Pointer | None = None
        self._unkept: dict[Digest, bytes] = {}
        self._news = asyncio.Event()

    def keep(self, pointer: Pointer, contents: Mapping[Digest, bytes]) -> None:
        """Have a snapshot kept soon.

        Args:
            pointer: what is in force now.
            contents: its shards that the one before did not have.
        """
        known = {**self._unkept, **contents}
        self._unkept = {digest: known[digest] for digest in pointer.shards if digest in known}
        self._pointer = pointer
        self._news.set()

    async def run(self) -> None:
        """Write for ever; cancelled, write the rest and end."""
        try:
            while True:
                await self._news.wait()
                writing = asyncio.create_task(self._write())
                try:
                    await asyncio.shield(writing)
                finally:
                    await writing
                await asyncio.sleep(self._pause)
        finally:
            if self._news.is_set():
                await self._write()

    async def _write(self) -> None:
        self._news.clear()
        pointer, contents = self._pointer, self._unkept
        assert pointer is not None, "news bring a pointer"  # noqa: S101 - for the type checker
        self._unkept = {}
        try:
            await asyncio.to_thread(self._files.save, pointer, contents)
        except OSError as error:  # it runs all the same
            log.warning("snapshot not kept on the volume", error=str(error))
            self._unkept = {**contents, **self._unkept}
