"""JSON schemas of clients, compiled once and kept while they are used.

A schema is code from anybody. The library stops recursion and remembers what it has checked; here
it is also kept from the network and the disk, and from patterns that backtrack.
"""

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator as Validator

LONGEST: Final = 64 * 1024
"""Bytes of one schema."""
SHORT: Final = 16 * 1024
"""Bytes of a schema without patterns that the event loop compiles itself: 1.5 ms at most."""
PATTERNS: Final = 16
"""Patterns in one schema. Their automata are what takes time and memory."""
PATTERN_SIZE: Final = 512 * 1024
"""Bytes of one automaton."""
DEEPEST: Final = 64
"""Objects and lists within each other."""
COMPILED: Final = 64
"""Schemas that stay compiled: those used last."""

_PATTERN: Final = b'"pattern'


class SchemaInvalid(ValueError):
    """The client must change its schema; the message says why, `param` where."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


def quick(schema: bytes) -> bool:
    """Say whether compiling takes too little time to leave the event loop for it.

    The first one loads the library, too, which takes 5 ms and 3.4 MiB.
    """
    return "jsonschema_rs" in sys.modules and len(schema) <= SHORT and _PATTERN not in schema


@lru_cache(maxsize=COMPILED)
def compiled(schema: bytes) -> "Validator":
    """Compile JSON text. Raises `SchemaInvalid`."""
    import jsonschema_rs  # noqa: PLC0415

    if len(schema) > LONGEST:
        raise SchemaInvalid(f"it is longer than {LONGEST} bytes")
    if schema.count(_PATTERN) > PATTERNS:
        raise SchemaInvalid(f"it has more than {PATTERNS} patterns")
    told = decode_flat(schema)
    if told is None:
        raise SchemaInvalid("it is nested too deeply")
    try:
        return jsonschema_rs.Draft202012Validator(
            told,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_SIZE),
            offline=True,
        )
    except (
        jsonschema_rs.ValidationError,
        jsonschema_rs.ReferencingError,
        ValueError,
        TypeError,
    ) as error:
        raise SchemaInvalid(str(error).partition("\n")[0][:256]) from error


def decode_flat(text: bytes | str) -> Any:
    """Decode valid JSON. None: it is nested deeper than whoever reads it next could follow."""
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        return None
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            return None
        depth += 1
        level = [item for outer in level for item in _inner(outer)]
    return value


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def fits(validator: "Validator", value: Any) -> bool:
    """Say whether `value` is as the schema wants it. What is nested too deeply is not."""
    try:
        return validator.is_valid(value)
    except ValueError:
        return False
