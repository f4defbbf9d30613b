"""Types that several resources share."""

from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from headgate_api.base import ApiModel, Rule
from headgate_api.units import DURATION, parse_duration


class Duration(float):
    """A duration in seconds that remembers how it was written.

    >>> Duration("1h30m"), str(Duration("1h30m"))
    (5400.0, '1h30m')
    """

    text: str

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, parse_duration(text))
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.text,)  # copies are made from the text, not from the number

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            core_schema.union_schema(
                [core_schema.is_instance_schema(cls), core_schema.str_schema()]
            ),
            serialization=core_schema.to_string_ser_schema(),
        )


def between(shortest: str, longest: str) -> tuple[Any, ...]:
    """The annotations of a `Duration` with bounds."""
    shape = f"self.matches('{DURATION}')"
    inside = f"duration('{shortest}') <= duration(self) && duration(self) <= duration('{longest}')"
    return (
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 32}),
        Rule(shape, '"{self}" is no duration: write 30s, 15m or 1h30m'),
        Rule(
            f"!{shape} || ({inside})",
            f"{shortest} to {longest} is allowed, this is {{self}}",
        ),
    )


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity: TypeAlias = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32}),
    Rule(
        "isQuantity(string(self)) && !quantity(string(self)).isLessThan(quantity('0'))",
        '"{string(self)}" is no quantity: write 1Gi, 500m or 2',
    ),
]
"""A Kubernetes quantity, kept as written; `units.parse_quantity` reads it."""

Percent: TypeAlias = Annotated[int, Field(ge=0, le=100)]
Tokens: TypeAlias = Annotated[int, Field(ge=1, le=10**12)]
Temperature: TypeAlias = Annotated[float, Field(ge=0, le=2)]
Cel: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024)]
"""An expression that the gateway evaluates; the operator checks it (`headgate_policy.cel`)."""

_NAME: Final = '"{self}" is no name: use a-z, 0-9 and "-", first and last a letter or digit'
_NAME_RULE: Final = Rule("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", _NAME)

VariantName: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=63),
    _NAME_RULE,
    Rule(
        "size(self) <= 16",
        '"{self}" is too long: at most 16 characters, because pods are named after it',
    ),
]
ModelName: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=63),
    _NAME_RULE,
    Rule(
        "size(self) <= 34",
        '"{self}" is too long: no ModelDeployment has a name of more than 34 characters',
    ),
]
"""metadata.name of a ModelDeployment."""
RouteName: TypeAlias = Annotated[str, Field(min_length=1, max_length=40), _NAME_RULE]
Label: TypeAlias = Annotated[str, Field(min_length=1, max_length=63), _NAME_RULE]
"""A name that also stands in labels, headers and metrics."""

ObjectName: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Rule(
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        '"{self}" is no name of an object: use a-z, 0-9, "-" and ".", '
        "first and last a letter or digit",
    ),
]
"""metadata.name of any other object."""

DataKey: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Rule(
        "self.matches('^[-._a-zA-Z0-9]+$')",
        '"{self}" is no entry of a Secret or ConfigMap: use letters, digits, "-", "_" and "."',
    ),
]

PublicName: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Rule(
        "self.matches('^[A-Za-z0-9]([-A-Za-z0-9._:/]*[A-Za-z0-9])?$')",
        '"{self}" is no model name: use letters, digits and - . _ : /, '
        "first and last a letter or digit",
    ),
]
"""What a client writes into `model`."""

HeaderName: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=64),
    Rule(
        "self.matches('^[-_A-Za-z0-9]+$')",
        '"{self}" is no name of a header: use letters, digits, "-" and "_"',
    ),
    Rule(
        "!(self.lowerAscii() in "
        "['authorization', 'cookie', 'proxy-authorization', 'x-api-key', 'api-key'])",
        "{self} holds credentials, which no policy can read; remove it",
    ),
    Rule(
        "!self.lowerAscii().matches('^(x-headgate-|x-gateway-|forwarded)')",
        "{self} is dropped by the gateway, whatever the client sends; use another header",
    ),
]
"""A header of clients that a policy reads, in letters of any case."""

Glob: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Rule(
        "self.matches('^[A-Za-z0-9*]([-A-Za-z0-9._:/*]*[A-Za-z0-9*])?$')",
        '"{self}" is no name: use letters, digits and - . _ : /, and * for any characters',
    ),
]
"""A name in which `*` stands for any characters."""

Image: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Rule(
        "!self.matches('(^[^@]*/[^:@]*$|^[^/:@]*$|:latest$)')",
        "name a tag or digest, not latest: a revision must mean one image; this is {self}",
    ),
]

_KEYS: Final = Rule(
    "self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?"
    "[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?$'))",
    "write each key as name or domain/name: letters, digits and - . _, "
    "first and last a letter or digit",
)
LabelValue: TypeAlias = Annotated[
    str,
    Field(max_length=63),
    Rule(
        "self.matches('^([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?)?$')",
        '"{self}" is no value of a label: use letters, digits and - . _, '
        "first and last a letter or digit",
    ),
]
Labels: TypeAlias = Annotated[dict[str, LabelValue], Field(max_length=64), _KEYS]
Annotations: TypeAlias = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64), _KEYS
]
Quantities: TypeAlias = Annotated[dict[str, Quantity], Field(max_length=16)]


class Ref(ApiModel):
    """An object of the same namespace."""

    name: ObjectName
    """metadata.name of the object."""


class KeyRef(ApiModel):
    """One entry of a ConfigMap or Secret of the same namespace."""

    name: ObjectName
    """metadata.name of the ConfigMap or Secret."""
    key: DataKey
    """Which entry of `data`."""


class ModelRef(ApiModel):
    """A ModelDeployment of the same namespace."""

    name: ModelName
    """metadata.name of the ModelDeployment, not the name that clients use."""


class Source(ApiModel):
    """Where a checkpoint or a model repository comes from."""

    validations = (
        Rule(
            "self.uri.matches('^(hf|pvc|file)://.+')",
            "start with hf://, pvc:// or file://; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "!self.uri.startsWith('hf://') || self.uri.matches('^hf://[^/@]+/[^/@]+@[^@/]+$')",
            "name the revision: hf://org/name@commit; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "!self.uri.startsWith('pvc://') || "
            "self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+')",
            "write pvc://claim/path, with the name of a PersistentVolumeClaim; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "!self.uri.startsWith('file://') || self.uri.matches('^file:///[^/]')",
            "write file:///path, an absolute path in the image; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "!self.uri.matches('/[.][.](/|$)')",
            "write the path without ..; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "!has(self.digest) || self.digest.matches('^sha256:[0-9a-f]{64}$')",
            "write sha256:<64 hex digits>; this is {self.digest}",
            ".digest",
        ),
    )

    uri: Annotated[str, Field(max_length=1024)]
    """`hf://org/name@revision` on Hugging Face, `pvc://claim/path` on a PersistentVolumeClaim, or
    `file:///path` in the image. A branch as revision is resolved once for each pod: pin a commit in
    production."""
    digest: Annotated[str, Field(max_length=71)] | None = None
    """`sha256:<64 hex digits>` of the content, for a source whose URI does not pin it."""
