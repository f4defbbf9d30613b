"""What every part of the API is made of: models, lists, rules, and the frame of a resource.

The models are read twice. At run time they parse live objects; at build time `crd` folds them into
the schemas that the API server enforces and `kubectl explain` prints, so a docstring here is a page
of the manual.

Two conventions keep both readings in one line:

* `= value` is a default that the API server writes into objects; `Field(default_factory=...)` is a
  convenience of the Python model alone, and the object stays as its author wrote it.
* An absent field is None or empty. Null never occurs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from headgate_api.errors import Invalid
from headgate_api.snapshot import Kind

RULES = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in CEL that the API server checks, and the sentence that a user reads.

    `{...}` in the sentence holds CEL: a path to a bounded string whose value the sentence shows.
    (The API server prints only "string" or "object" as the bad value, and it refuses `string(1)`
    here by its cost estimate.) As an annotation of a scalar the rule binds the value itself.

    >>> Rule("self > 'a'", "{self} is not above a").words()["messageExpression"]
    "self + ' is not above a'"
    """

    rule: str
    message: str
    at: str = ""
    """Path of the field to blame, such as `.uri`; the object itself when empty."""

    def words(self) -> dict[str, str]:
        """The rule as one item of `x-kubernetes-validations`."""
        said = {"rule": self.rule, "message": re.sub("{.*?}", "...", self.message)}
        if said["message"] != self.message:
            terms = re.split("{(.*?)}", self.message)
            terms[::2] = map(_quoted, terms[::2])
            said["messageExpression"] = " + ".join(term for term in terms if term != "''")
        return said | ({"fieldPath": self.at} if self.at else {})

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        return schema | {RULES: [*schema.get(RULES, ()), self.words()]}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def keyed(key: str, least: int, most: int) -> Any:
    """A list whose items are told apart, and merged, by the field `key`."""
    return _listed(least, most, {"list-type": "map", "list-map-keys": [key]})


def distinct(least: int, most: int) -> Any:
    """A list without duplicates whose order means nothing."""
    return _listed(least, most, {"list-type": "set"})


def ordered(least: int, most: int) -> Any:
    """A list that is replaced as a whole, because its order means something.

    The fold keeps defaults out of its items: after a server-side apply Argo CD would see a
    difference to Git for ever.
    """
    return _listed(least, most, {"list-type": "atomic"})


def _listed(least: int, most: int, words: Mapping[str, Any]) -> Any:
    extra = {f"x-kubernetes-{word}": value for word, value in words.items()}
    return Field(min_length=least or None, max_length=most, json_schema_extra=extra)


class ApiModel(BaseModel):
    """Base of everything in the API."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",  # an older program must live with newer objects; see kinds.unknown_fields
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )
    validations: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        if cls.validations:
            handler.resolve_ref_schema(schema)[RULES] = [rule.words() for rule in cls.validations]
        return schema


class Metadata(ApiModel):
    """The part of Kubernetes' ObjectMeta that Headgate reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


class Condition(ApiModel):
    """One aspect of the object's state, as last found by the operator."""

    type: Annotated[str, Field(max_length=64)]
    """Which aspect, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Unknown: it could not be checked, or it is not decided yet."""
    reason: Annotated[str, Field(min_length=1, max_length=64)]
    """Why, in one CamelCase word that never changes its meaning: alert on it."""
    message: Annotated[str, Field(max_length=1024)]
    """Why, in a sentence for people."""
    observed_generation: int | None = None
    """metadata.generation that the condition speaks of."""
    last_transition_time: datetime
    """When the status last flipped."""


class Status(ApiModel):
    """What every status has."""

    observed_generation: int | None = None
    """metadata.generation that this status speaks of."""
    conditions: Annotated[tuple[Condition, ...], keyed("type", 0, 16)] = ()
    """What the operator found, one entry for each aspect. Ready is the summary."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False
    """Only with `-o wide`."""


def condition_column(name: str, type_: str, field: str, *, wide: bool = False) -> Column:
    return Column(name, f'.status.conditions[?(@.type=="{type_}")].{field}', wide=wide)


READY = condition_column("Ready", "Ready", "status")
REASON = condition_column("Reason", "Ready", "reason")
MESSAGE = condition_column("Message", "Ready", "message", wide=True)
AGE = Column("Age", ".metadata.creationTimestamp", "date")

JsonObject: TypeAlias = Mapping[str, Any]


class Resource(ApiModel):
    """A whole object of one of the four kinds."""

    kind: ClassVar[Kind]
    plural: ClassVar[str]
    short_name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    scale: ClassVar[bool] = False
    """Whether `kubectl scale` and autoscalers may set `spec.replicas`."""

    metadata: Metadata

    @classmethod
    def parse(cls, manifest: JsonObject) -> Self:
        """Read a live object; fields that this release does not know are ignored.

        Raises:
            Invalid: the object does not fit the schema, as one may that is older than a rule.
        """
        try:
            return cls.model_validate(manifest)
        except ValidationError as error:
            raise Invalid("; ".join(map(_sentence, error.errors()))) from error


def _sentence(fault: ErrorDetails) -> str:
    """Say what is wrong as the API server does: field, value, and what would be right."""
    value = fault["input"]
    shown = "" if isinstance(value, dict | list) else f"Invalid value: {json.dumps(value)}: "
    return f"{_path(fault['loc'])}: {shown}{fault['msg'].removeprefix('Value error, ')}"


def _path(location: tuple[int | str, ...]) -> str:
    """Write a location as the API server does.

    >>> _path(("spec", "variants", 0, "gpu"))
    'spec.variants[0].gpu'
    """
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")
