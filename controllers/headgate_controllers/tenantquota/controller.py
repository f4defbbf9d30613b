"""TenantQuota: what wakes it, and what a pass may look at."""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from headgate_api.errors import Invalid
from headgate_api.snapshot import Entry, TenantBody
from headgate_api.tenantquota import TenantQuota
from headgate_controllers.contract import (
    Cache,
    Controller,
    Environment,
    Key,
    Manifest,
    Watch,
    key_of,
)
from headgate_controllers.standing import created, senior, subject_of
from headgate_controllers.tenantquota.plan import Holder, Observed, plan
from headgate_controllers.tenantquota.resources import fingerprints
from headgate_policy.snapshot import decode_body

KIND: Final = "TenantQuota"


def observe(key: Key, cache: Cache, env: Environment) -> Observed | None:
    """Look at the object, its Secrets, and whoever has its tenant or its keys already."""
    if (subject := subject_of(key, cache)) is None:
        return None
    manifest = subject.manifest
    try:
        quota = TenantQuota.parse(manifest)
    except Invalid as error:
        return Observed(subject, error)
    secrets = {secret.name: fingerprints(cache.document(secret)) for secret in references(manifest)}
    digests = {
        fingerprint.sha256
        for prints in secrets.values()
        if isinstance(prints, Mapping)
        for fingerprint in prints.values()
    }
    return Observed(
        subject,
        quota,
        created=created(manifest),
        senior=senior(manifest, cache.find(KIND, _tenant(manifest))),
        secrets=secrets,
        holders={digest: tuple(_holders(key, digest, cache)) for digest in digests},
    )


def _holders(key: Key, digest: str, cache: Cache) -> Iterable[Holder]:
    for entry in cache.holders(KIND, f"key/{digest}"):
        other = Key(KIND, entry.namespace, entry.name)
        if other != key and (manifest := cache.get(other)) is not None:
            yield Holder(entry.namespace, entry.name, created(manifest))


def references(manifest: Manifest) -> list[Key]:
    namespace = manifest["metadata"]["namespace"]
    names = {c["apiKeys"]["secretRef"]["name"] for c in manifest["spec"].get("credentials", ())}
    return [Key("Secret", namespace, name) for name in sorted(names)]


def index(manifest: Manifest) -> list[str]:
    secrets = (f"Secret/{key.namespace}/{key.name}" for key in references(manifest))
    return [_tenant(manifest), *secrets]


def holds(entry: Entry) -> list[str]:
    return [f"key/{key.sha256}" for key in cast(TenantBody, decode_body(entry)).keys]


def _tenant(manifest: Manifest) -> str:
    return f"tenant/{manifest['spec'].get('tenant', manifest['metadata']['name'])}"


def _rivals(manifest: Manifest, cache: Cache) -> set[Key]:
    return {key_of(manifest)} | {key_of(m) for m in cache.find(KIND, _tenant(manifest))}


def _users(secret: Manifest, cache: Cache) -> list[Key]:
    meta = secret["metadata"]
    return [key_of(m) for m in cache.find(KIND, f"Secret/{meta['namespace']}/{meta['name']}")]


CONTROLLER = Controller(
    kind=KIND,
    watches=(Watch(KIND, wakes=_rivals), Watch("Secret", wakes=_users)),
    references=references,
    observe=observe,
    plan=plan,
    index=index,
    holds=holds,
)
