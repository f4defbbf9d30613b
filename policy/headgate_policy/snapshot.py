"""Snapshot: from entries to the bytes that lie in ConfigMaps, and back.

Entries are spread over buckets by a hash of their identity, so that a change of one object changes
one small shard, and gateways decode only that one. The bytes depend on the entries alone, never on
their order or on history: two operators write the same, and what did not change has the same name.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec

from headgate_api.errors import TerminalError
from headgate_api.snapshot import (
    BODIES,
    SCHEMA,
    Body,
    Digest,
    Entry,
    Identity,
    Kind,
    Pointer,
    Shard,
)

FEWEST_BUCKETS: Final = 128
MOST_BUCKETS: Final = 4096
"""Their digests make a pointer of 150 KB; a ConfigMap holds 1 MiB."""
SHARD_LIMIT: Final = 64 * 1024
"""Bytes that a gateway decodes in about a millisecond, between two requests."""

Decoded = TypeVar("Decoded")


class Shards(NamedTuple):
    """The shards by digest, and the digests by bucket: the empty string is an empty bucket."""

    contents: dict[Digest, bytes]
    digests: tuple[Digest, ...]


class Compiler:
    """Compiles again and again: an entry object that it knows is not encoded a second time."""

    def __init__(self) -> None:
        self._known: dict[Identity, tuple[Entry, _Line]] = {}

    def compile(self, entries: Iterable[Entry]) -> Shards:
        """Spread `entries` over shards.

        The number of buckets is the least power of two, from 128 to 4096, with which every shard
        is at most 64 KiB or holds one entry. Beyond 4096 shards grow instead: many large chat
        templates would else ask for a pointer that no ConfigMap can hold.

        Raises:
            ValueError: two entries stand for one object.
        """
        known: dict[Identity, tuple[Entry, _Line]] = {}
        for entry in entries:
            identity = entry.identity
            if identity in known:
                raise ValueError(f"two entries for {identity}")
            before = self._known.get(identity)
            if before is None or before[0] is not entry:
                before = (entry, _line(entry))
            known[identity] = before
        self._known = known
        lines = sorted(line for _, line in known.values())
        buckets = _spread(lines, FEWEST_BUCKETS)
        while len(buckets) < MOST_BUCKETS and any(map(_overflows, buckets)):
            buckets = _spread(lines, 2 * len(buckets))
        contents = [_shard(bucket) if bucket else b"" for bucket in buckets]
        digests = tuple(digest_of(content) if content else "" for content in contents)
        return Shards({d: c for d, c in zip(digests, contents, strict=True) if d}, digests)


def compile_shards(entries: Iterable[Entry]) -> Shards:
    """Compile once. See `Compiler.compile`."""
    return Compiler().compile(entries)


def bucket_of(identity: Identity, buckets: int) -> int:
    """Tell in which of `buckets` (a power of two) an object's entry lies.

    >>> bucket_of(Identity(kind="TenantQuota", namespace="chat", name="acme"), 128)
    21
    """
    return _hash(identity) & (buckets - 1)


def digest_of(content: bytes) -> Digest:
    return sha256(content).hexdigest()[:32]


def make_entry(
    identity: Identity, *, uid: str, generation: int, body: Body, requires: Iterable[str] = ()
) -> Entry:
    """Make the entry of one accepted object. Equal arguments give equal bytes."""
    return Entry(
        kind=identity.kind,
        namespace=identity.namespace,
        name=identity.name,
        uid=uid,
        generation=generation,
        requires=tuple(sorted(requires)),
        body=msgspec.Raw(msgspec.json.encode(_lean(body))),
    )


def _lean(value: Any) -> Any:
    """Leave out whatever equals its default: msgspec does so only with the very same object."""
    if isinstance(value, tuple):
        return tuple(map(_lean, value))
    if not isinstance(value, msgspec.Struct):
        return value
    kind = type(value)
    inner = {name: _lean(getattr(value, name)) for name in kind.__struct_fields__}
    usual = _defaults(kind)
    return kind(**{name: item for name, item in inner.items() if item != usual[name]})


@cache
def _defaults(kind: type[msgspec.Struct]) -> Mapping[str, object]:
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def encode_pointer(pointer: Pointer) -> bytes:
    return msgspec.json.encode(pointer)


def decode_pointer(data: bytes | str) -> Pointer:
    """Read a pointer.

    Raises:
        TerminalError: these bytes are no pointer, or one of a schema that we cannot read.
    """
    schema = _decode(data, _Schema, "pointer").schema
    if schema != SCHEMA:
        raise TerminalError(f"snapshot has schema {schema}; this release reads {SCHEMA}")
    return _decode(data, Pointer, "pointer")


def decode_shard(data: bytes | str) -> Shard:
    """Read a shard; bodies stay raw. `TerminalError`: these bytes are no shard."""
    return _decode(data, Shard, "shard")


def decode_body(entry: Entry) -> Body:
    """Read an entry's body. `TerminalError`: it is not what its kind should have."""
    what = f"{entry.kind} {entry.namespace}/{entry.name}"
    return cast(Body, _decode(bytes(entry.body), BODIES[entry.kind], what))


class _Schema(msgspec.Struct):
    schema: int


class _Line(NamedTuple):
    """An entry, ready to be joined with others. Sorts by identity."""

    kind: Kind
    namespace: str
    name: str
    hash: int
    content: bytes


def _line(entry: Entry) -> _Line:
    content = msgspec.json.encode(entry)
    return _Line(entry.kind, entry.namespace, entry.name, _hash(entry.identity), content)


def _hash(identity: Identity) -> int:
    name = f"{identity.kind}/{identity.namespace}/{identity.name}"
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")


def _spread(lines: Iterable[_Line], count: int) -> list[list[bytes]]:
    buckets: list[list[bytes]] = [[] for _ in range(count)]
    for line in lines:
        buckets[line.hash & (count - 1)].append(line.content)
    return buckets


def _shard(bucket: list[bytes]) -> bytes:
    return b'{"entries":[' + b",".join(bucket) + b"]}"


def _overflows(bucket: list[bytes]) -> bool:
    return len(bucket) > 1 and sum(map(len, bucket)) + len(bucket) + 13 > SHARD_LIMIT


def _decode(data: bytes | str, kind: type[Decoded], what: str) -> Decoded:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TerminalError(f"snapshot: malformed {what}: {error}") from error
