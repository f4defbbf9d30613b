"""What gateways look up for every request, compiled from a snapshot's entries."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple, TypeAlias, final

from headgate_api.errors import TerminalError
from headgate_api.snapshot import (
    ApiKey,
    Cohort,
    Entry,
    Identity,
    ModelBody,
    RouteBody,
    SafetyBody,
    TenantBody,
)
from headgate_gateway.routing.copies import Draft, SharedMap
from headgate_gateway.routing.pods import Pool
from headgate_gateway.routing.routes import Route, compile_route, compiling_routes
from headgate_policy.globs import matches
from headgate_policy.patterns import Pattern, any_of, pattern
from headgate_policy.snapshot import decode_body

MOST_BOUND: Final = 4096
"""Pairs of a tenant and a model whose gates are remembered."""


@final
class Tenant:
    """Who pays.

    Args:
        namespace: of the TenantQuota.
        body: what it says.
        digests: SHA-256 of each of its keys.
    """

    __slots__ = ("_allowed", "body", "digests", "limits", "name", "namespace")

    def __init__(self, namespace: str, body: TenantBody, digests: tuple[bytes, ...]) -> None:
        self.namespace = namespace
        self.body = body
        self.digests = digests
        # What every request asks for
        self.name = body.tenant
        self.limits = body.request
        self._allowed = body.allowed_models

    def may_use(self, public_name: str) -> bool:
        return self._allowed is None or matches(self._allowed, public_name)


@final
class Credential:
    """A key that opens the door, and whose it is."""

    __slots__ = ("expires_at", "key", "tenant")

    def __init__(self, tenant: Tenant, key: ApiKey) -> None:
        self.tenant = tenant
        self.key = key
        self.expires_at = key.expires_at
        """Seconds since 1970. None: never."""


@final
class Model:
    """A ModelDeployment.

    Args:
        identity: its name.
        uid: of the object.
        body: what it says.
    """

    __slots__ = (
        "body",
        "cohorts",
        "identity",
        "max_context_tokens",
        "pool",
        "suspended",
        "template",
        "texts_alone",
        "tokenizer",
    )

    def __init__(self, identity: Identity, uid: str, body: ModelBody) -> None:
        self.identity = identity
        self.body = body
        self.pool = Pool(identity.namespace, uid)
        self.cohorts = {cohort.name: cohort for cohort in body.cohorts}
        """By name."""
        self.texts_alone = any(cohort.runtime != "trtllm-serve" for cohort in body.cohorts)
        """The answer may come from a runtime that knows texts, and no conversations."""
        # What every request asks for
        self.suspended = body.suspended
        self.max_context_tokens = body.max_context_tokens
        self.template = body.chat_template
        self.tokenizer = body.tokenizer

    def of_variant(self, variant: str) -> Mapping[str, Cohort]:
        return {name: c for name, c in self.cohorts.items() if c.variant == variant}


class Rule(NamedTuple):
    name: str
    pattern: Pattern
    explanation: str | None


@dataclass(frozen=True, slots=True)
class Gate:
    """A SafetyPolicy's rules over what clients write."""

    identity: Identity
    body: SafetyBody
    rules: tuple[Rule, ...]
    screen: Pattern | None
    """Found wherever one of the rules is; None: nobody knows before each was looked for."""

    def binds(self, tenant: str, public_name: str) -> bool:
        return matches(self.body.tenants, tenant) and matches(self.body.models, public_name)


@final
class Bound:
    """The gates before some requests."""

    __slots__ = ("gates", "rules")

    def __init__(self, gates: tuple[Gate, ...]) -> None:
        self.gates = gates
        self.rules = sum(len(gate.rules) for gate in gates)
        """Of all of them."""


Compiled: TypeAlias = Tenant | Model | Route | Gate


class Held(NamedTuple):
    """An entry that is in force, and what was compiled from it."""

    entry: Entry
    compiled: Compiled


@dataclass(slots=True)
class Space:
    """What one namespace offers. Names are public ones, but for `objects`."""

    routes: dict[str, Route] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    objects: dict[str, Model] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    _bound: dict[tuple[str, str], Bound] = field(default_factory=dict)

    def copy(self) -> "Space":
        return Space(dict(self.routes), dict(self.models), dict(self.objects), dict(self.gates))

    def names(self) -> Iterator[tuple[str, int]]:
        """List the public names with the time of their creation."""
        created = {name: model.body.created for name, model in self.models.items()}
        created |= {name: route.body.created for name, route in self.routes.items()}
        return iter(sorted(created.items()))

    def bound(self, tenant: str, public_name: str) -> Bound:
        """Find the gates before a tenant's requests for a model. Found once, as they stay."""
        key = (tenant, public_name)
        found = self._bound.get(key)
        if found is None:
            if len(self._bound) >= MOST_BOUND:
                self._bound.clear()
            bound = Bound(tuple(gate for gate in self.gates.values() if gate.binds(*key)))
            found = self._bound[key] = bound
        return found


EMPTY_SPACE: Final = Space()


@dataclass(frozen=True, slots=True)
class Tables:
    """One version of everything. Requests keep the one that they began with."""

    held: SharedMap[Identity, Held] = field(default_factory=SharedMap)
    keys: SharedMap[bytes, Credential] = field(default_factory=SharedMap)
    spaces: SharedMap[str, Space] = field(default_factory=SharedMap)

    def space(self, namespace: str) -> Space:
        return self.spaces.get(namespace) or EMPTY_SPACE

    def without(self, other: "Tables") -> list[object]:
        """The dicts that `other` does not share, for whoever lets go of them one by one."""
        pairs = chain(
            zip(self.held.parts, other.held.parts, strict=True),
            zip(self.keys.parts, other.keys.parts, strict=True),
            zip(self.spaces.parts, other.spaces.parts, strict=True),
        )
        return [mine for mine, theirs in pairs if mine is not theirs]

    def edit(self) -> "TablesDraft":
        return TablesDraft(self.held.edit(), self.keys.edit(), self.spaces.edit())


def compile_entry(entry: Entry) -> Compiled:
    """Decode an entry and prepare it. `TerminalError`: it is not what its kind should have."""
    identity = entry.identity
    match decode_body(entry):
        case TenantBody() as body:
            return Tenant(entry.namespace, body, tuple(map(_digest, body.keys)))
        case ModelBody() as body:
            return Model(identity, entry.uid, body)
        case RouteBody() as body:
            return compile_route(identity, body)
        case SafetyBody() as body:
            rules = tuple(Rule(r.name, pattern(r.pattern), r.explanation) for r in body.rules)
            return Gate(identity, body, rules, any_of(r.pattern for r in body.rules))


class TablesDraft:
    """The next version of the tables. An object's old traces go before its new ones come."""

    def __init__(
        self,
        held: Draft[Identity, Held],
        keys: Draft[bytes, Credential],
        spaces: Draft[str, Space],
    ) -> None:
        self._held = held
        self._keys = keys
        self._spaces = spaces
        self._copied: set[str] = set()
        self.replaced: list[Held] = []
        """What is no longer in force."""

    def held(self, identity: Identity) -> Held | None:
        return self._held.get(identity)

    def compiling(self, entry: Entry) -> Iterator[None]:
        """Do the part of `put` that takes long, in steps between which others may run.

        What is wrong with the entry `put` says.
        """
        if entry.kind != "RoutingPolicy":
            return
        before = self._held.get(entry.identity)
        if before is not None and before.entry == entry:
            return
        try:
            body = decode_body(entry)
            assert isinstance(body, RouteBody)  # noqa: S101 - by its kind
            yield from compiling_routes(body)
        except TerminalError:
            return

    def put(self, entry: Entry) -> None:
        """Bring an entry into force. `TerminalError`: it cannot be read; the old one stays."""
        before = self._held.get(entry.identity)
        if before is not None and before.entry == entry:
            return
        compiled = compile_entry(entry)
        if before is not None:
            self.replaced.append(before)
            self._unlink(before.compiled)
        self._held[entry.identity] = Held(entry, compiled)
        self._link(compiled)

    def drop(self, identity: Identity) -> None:
        before = self._held.get(identity)
        if before is not None:
            self.replaced.append(before)
            self._held.drop(identity)
            self._unlink(before.compiled)

    def done(self) -> Tables:
        return Tables(self._held.done(), self._keys.done(), self._spaces.done())

    def _space(self, namespace: str) -> Space:
        """A copy of the namespace's part that is ours to change."""
        space = self._spaces.get(namespace)
        if space is None or namespace not in self._copied:
            space = space.copy() if space is not None else Space()
            self._spaces[namespace] = space
            self._copied.add(namespace)
        return space

    def _link(self, compiled: Compiled) -> None:
        match compiled:
            case Tenant(body=body, digests=digests):
                for digest, key in zip(digests, body.keys, strict=True):
                    self._keys[digest] = Credential(compiled, key)
            case Model(identity=identity, body=body):
                space = self._space(identity.namespace)
                space.models[body.public_name] = compiled
                space.objects[identity.name] = compiled
            case Route(identity=identity, body=body):
                space = self._space(identity.namespace)
                space.routes |= dict.fromkeys(body.models, compiled)
            case Gate(identity=identity):
                self._space(identity.namespace).gates[identity.name] = compiled

    def _unlink(self, compiled: Compiled) -> None:
        """Take away what still belongs to `compiled`: a name may have a new owner already."""
        match compiled:
            case Tenant(digests=digests):
                for digest in digests:
                    owner = self._keys.get(digest)
                    if owner is not None and owner.tenant is compiled:
                        self._keys.drop(digest)
            case Model(identity=identity, body=body):
                space = self._space(identity.namespace)
                if space.models.get(body.public_name) is compiled:
                    del space.models[body.public_name]
                if space.objects.get(identity.name) is compiled:
                    del space.objects[identity.name]
            case Route(identity=identity, body=body):
                space = self._space(identity.namespace)
                for name in body.models:
                    if space.routes.get(name) is compiled:
                        del space.routes[name]
            case Gate(identity=identity):
                self._space(identity.namespace).gates.pop(identity.name, None)


def _digest(key: ApiKey) -> bytes:
    try:
        return bytes.fromhex(key.sha256)
    except ValueError as error:
        raise TerminalError(f"the key {key.name} has no SHA-256 in hex") from error
