"""A value that a JSON schema allows: what guided decoding would end up with.

The same schema and seed give the same value. It is as small as the schema permits, with every
property that is named, so that whoever reads it meets them all.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

ANY_OBJECT: Final[Schema] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
WORDS: Final = ("harbour", "lighthouse", "tide", "ferry", "pilot", "chart", "gull", "anchor")
FORMATS: Final = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "time": "03:04:05Z",
    "email": "keeper@lighthouse.example",
    "uri": "https://lighthouse.example/log",
    "uuid": "0b8f7f0e-9a5e-4c58-9d3b-2f1c6d7e8a90",
}
DEEPEST: Final = 8
"""Below it what may be left out is, or a schema that holds itself would have no end."""


def instance(schema: Any, seed: str) -> Any:
    """Make a value of `schema`. It need not be valid for keywords such as `pattern` and `not`.

    >>> instance({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}, "")
    {'n': 3}
    """
    return _Maker(schema if isinstance(schema, Mapping) else {}, seed).make(schema, "$", 0)


class _Maker:
    def __init__(self, root: Schema, seed: str) -> None:
        self._root = root
        self._seed = seed

    def make(self, schema: Any, path: str, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return self._word(path)  # true allows anything
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if values := schema.get("enum"):
            return values[self._draw(path) % len(values)]
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kinds = kind if isinstance(kind, list) else [kind]
        return self._of_kind(kinds[0], schema, path, depth)

    def _of_kind(self, kind: str, schema: Schema, path: str, depth: int) -> Any:
        made: Any = None
        match kind:
            case "object":
                made = self._object(schema, path, depth)
            case "array":
                made = self._array(schema, path, depth)
            case "integer" | "number":
                made = self._number(schema)
            case "boolean":
                made = bool(self._draw(path) % 2)
            case "null":
                pass
            case _:
                made = self._string(schema, path)
        return made

    def _resolved(self, schema: Schema, depth: int) -> Schema:
        """Put what `$ref` points to in its place, one of a choice, and `allOf` into one."""
        seen = 0
        while "$ref" in schema and seen < DEEPEST:
            seen += 1
            found: Any = self._root
            for step in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                found = found.get(step, {}) if step and isinstance(found, Mapping) else found
            schema = {**{key: value for key, value in schema.items() if key != "$ref"}, **found}
        choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
        # The last is often null, where a schema would else hold itself for ever.
        chosen = choices[:1] if depth < DEEPEST else choices[-1:]
        for part in (*chosen, *schema.get("allOf", ())):
            inner = self._resolved(part, depth)
            both = {**schema.get("properties", {}), **inner.get("properties", {})}
            schema = {**schema, **inner} | ({"properties": both} if both else {})
        return schema

    def _object(self, schema: Schema, path: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        names = [name for name in properties if depth < DEEPEST or name in required]
        names += [name for name in required if name not in properties]
        return {n: self.make(properties.get(n, {}), f"{path}.{n}", depth + 1) for n in names}

    def _array(self, schema: Schema, path: str, depth: int) -> list[Any]:
        first = list(schema.get("prefixItems", ()))
        least = max(schema.get("minItems", 0), len(first))
        wanted = least or (1 if depth < DEEPEST and schema.get("maxItems", 1) else 0)
        items = first + [schema.get("items", {})] * (wanted - len(first))
        return [self.make(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(items)]

    def _number(self, schema: Schema) -> Any:
        step = schema.get("multipleOf", 1)
        least = schema.get("minimum")
        if least is None and "exclusiveMinimum" in schema:
            least = schema["exclusiveMinimum"] + step
        most = schema.get("maximum")
        if most is None and "exclusiveMaximum" in schema:
            most = schema["exclusiveMaximum"] - step
        if least is not None:
            return -(-least // step) * step
        return 0 if most is None or most >= 0 else most // step * step

    def _string(self, schema: Schema, path: str) -> str:
        if (form := schema.get("format")) in FORMATS:
            return FORMATS[form]
        text = self._word(path)
        while len(text) < schema.get("minLength", 0):
            text += " " + self._word(f"{path}/{len(text)}")
        return text[: schema.get("maxLength", len(text))]

    def _word(self, path: str) -> str:
        return WORDS[self._draw(path) % len(WORDS)]

    def _draw(self, path: str) -> int:
        digest = blake2b(f"{self._seed}\n{path}".encode("utf-8", "replace"), digest_size=4)
        return int.from_bytes(digest.digest(), "big")
