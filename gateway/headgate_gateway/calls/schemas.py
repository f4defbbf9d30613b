"""JSON schemas of clients, compiled once and kept while they are used.

A schema is code from anybody. The library stops recursion and remembers what it has checked; here
it is also kept from the network and the disk, and from patterns that backtrack.
"""

from functools import lru_cache
from typing import Any, Final, TypeAlias

import jsonschema_rs
import msgspec
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

LONGEST: Final = 64 * 1024
"""Bytes of one schema."""
SHORT: Final = 16 * 1024
"""Bytes of a schema without patterns that the event loop compiles itself: 1.5 ms at most."""
PATTERNS: Final = 16
"""Patterns in one schema. Their automata are what takes time and memory."""
PATTERN_SIZE: Final = 512 * 1024
"""Bytes of one automaton."""
COMPILED: Final = 64
"""Schemas that stay compiled: those used last."""

Validator: TypeAlias = Draft202012Validator
_PATTERN: Final = b'"pattern'


class SchemaInvalid(ValueError):
    """The client must change its schema; the message says why."""

    param = "response_format"  # where it stands


def quick(schema: bytes) -> bool:
    """Say whether compiling takes too little time to leave the event loop for it."""
    return len(schema) <= SHORT and _PATTERN not in schema


@lru_cache(maxsize=COMPILED)
def compiled(schema: bytes) -> Validator:
    """Compile JSON text. Raises `SchemaInvalid`."""
    if len(schema) > LONGEST:
        raise SchemaInvalid(f"it is longer than {LONGEST} bytes")
    if schema.count(_PATTERN) > PATTERNS:
        raise SchemaInvalid(f"it has more than {PATTERNS} patterns")
    try:
        return Draft202012Validator(
            msgspec.json.decode(schema),
            pattern_options=RegexOptions(size_limit=PATTERN_SIZE),
            offline=True,
        )
    except (ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise SchemaInvalid(str(error).partition("\n")[0][:256]) from error


def fits(validator: Validator, value: Any) -> bool:
    """Say whether `value` is as the schema wants it. What is nested too deeply is not."""
    try:
        return validator.is_valid(value)
    except ValueError:
        return False
