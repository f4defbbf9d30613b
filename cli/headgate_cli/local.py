"""A gateway without a cluster: policy from files, model servers by URL.

The files are judged as `headgate validate` judges them and compiled by the controllers, so what is
served is what a cluster would serve. They are looked at again and again; a change comes into force
as a whole, or not at all while anything in the folder is wrong.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import structlog

from headgate_api.errors import TerminalError
from headgate_api.snapshot import (
    Cohort,
    Entry,
    ModelBody,
    Pointer,
    RouteBody,
    RouteRule,
    SafetyBody,
    Target,
    TenantBody,
)
from headgate_cli.manifests.findings import Finding
from headgate_cli.manifests.judging import Judged, judge
from headgate_cli.manifests.paths import paths_of
from headgate_gateway.admin import Access, Authorize
from headgate_gateway.gateway import Gateway
from headgate_gateway.main import Process, stopping
from headgate_gateway.routing.pods import Pod, Pool
from headgate_gateway.settings import read_settings
from headgate_policy.snapshot import compile_shards, decode_body

log = structlog.get_logger(__name__)

PERIOD: Final = 0.5  # s from one look at the files to the next
MOST_ROUTES: Final = 4
"""Of a policy, in its line of a summary."""
SHAPE: Final = "write MODEL=http://HOST:PORT, or MODEL/VARIANT=http://HOST:PORT"


class Upstream(NamedTuple):
    """Where a model server is."""

    model: str  # metadata.name of the ModelDeployment
    variant: str  # empty: it serves all of them
    host: str
    port: int


def upstream(text: str) -> Upstream:
    """Read an option `--upstream`.

    Raises:
        TerminalError: it has another shape.

    >>> upstream("llama/fp8=http://127.0.0.1:8000")
    Upstream(model='llama', variant='fp8', host='127.0.0.1', port=8000)
    """
    name, equals, url = text.partition("=")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TerminalError(f"--upstream {text}: {error}; {SHAPE}") from error
    model, slash, variant = name.partition("/")
    bare = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
    named = bool(model) and bool(variant) == bool(slash)
    if not (named and equals and parts.hostname and bare and parts.scheme == "http"):
        raise TerminalError(f"--upstream {text}: {SHAPE}")
    return Upstream(model, variant, parts.hostname, port or 80)


class Files:
    """The files, as the source of a gateway. See `headgate_gateway.main.Source`."""

    def __init__(
        self, paths: Sequence[str], region: str, upstreams: Sequence[Upstream], gateway: Gateway
    ) -> None:
        self._paths = paths
        self._region = region
        self._upstreams = upstreams
        self._gateway = gateway
        self._seen: object = None
        self._pods: set[tuple[str, str]] = set()
        self._sequence = 0

    async def restore(self) -> None:
        """Bring the files into force.

        Raises:
            TerminalError: something in them is wrong; the message has a line for each finding.
        """
        self._seen = await asyncio.to_thread(self._signature)
        judged = await judge(self._paths, self._region)
        if not judged.findings:
            self._complain_of_unused(judged)
        if findings := self._findings(judged):
            raise TerminalError("nothing is served:\n" + "\n".join(map(str, findings)))
        await self._bring(judged)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Bring the files into force if they have changed and are good."""
        try:
            seen = await asyncio.to_thread(self._signature)
            if seen == self._seen:
                return
            self._seen = seen
            judged = await judge(self._paths, self._region)
        except OSError:
            return  # a file went while it was looked at: there is more to come
        except TerminalError as error:  # a whole folder is gone
            if self._seen is not None:
                complain(error)
            self._seen = None
            return
        findings = self._findings(judged)
        for finding in findings:
            complain(finding)
        if not findings:
            await self._bring(judged)

    def unready(self) -> str:
        return ""

    def _signature(self) -> object:
        """Tell when the files were changed, cheaply."""
        found = ((path, path.stat()) for path in paths_of(self._paths))
        return [(str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found]

    def _findings(self, judged: Judged) -> list[Finding]:
        """Add to what is wrong with the files the models that no option leads to."""
        findings = list(judged.findings)
        for entry, cohorts in models(judged.entries):
            if cohorts and not any(self._of(entry.name, cohort.variant) for cohort in cohorts):
                said = f"it has no model server; add --upstream {entry.name}=http://HOST:PORT"
                findings.append(judged.finding(entry, said))
        return findings

    def _complain_of_unused(self, judged: Judged) -> None:
        known = {
            (entry.name, variant)
            for entry, cohorts in models(judged.entries)
            for variant in ("", *(cohort.variant for cohort in cohorts))
        }
        for found in self._upstreams:
            if (found.model, found.variant) not in known:
                names = ", ".join(sorted(f"{n}/{v}" for n, v in known if v)) or "none"
                name = f"{found.model}/{found.variant}".removesuffix("/")
                said = f"--upstream {name}: the manifests have no such model or variant"
                raise TerminalError(f"{said}; there are: {names}")

    async def _bring(self, judged: Judged) -> None:
        pods = {(pod.pool.namespace, pod.name): pod for pod in self._wanted(judged.entries)}
        for key, pod in pods.items():
            self._gateway.pods.place(key, pod)
        self._sequence += 1
        shards = compile_shards(judged.entries)
        pointer = Pointer(schema=1, epoch=1, sequence=self._sequence, shards=shards.digests)
        snapshots = self._gateway.snapshots
        missing = snapshots.missing(pointer)
        await snapshots.swap(pointer, {digest: shards.contents[digest] for digest in missing})
        for key in self._pods - pods.keys():
            self._gateway.pods.place(key, None)
        self._pods = set(pods)
        for line in summary(judged.entries, self._upstreams):
            print(line, file=sys.stderr, flush=True)

    def _wanted(self, entries: Iterable[Entry]) -> Iterator[Pod]:
        for entry, cohorts in models(entries):
            for cohort in cohorts:
                for found in self._of(entry.name, cohort.variant):
                    address = f"{found.host}:{found.port}"
                    yield Pod(
                        # Of a cohort's own: the old one's serve until the new one is in force.
                        name=f"{cohort.name}@{address}",
                        uid=address,
                        host=found.host,
                        port=found.port,
                        cohort=cohort.name,
                        pool=Pool(entry.namespace, entry.uid),
                    )

    def _of(self, model: str, variant: str) -> list[Upstream]:
        return [
            found
            for found in self._upstreams
            if found.model == model and found.variant in ("", variant)
        ]


def complain(what: object) -> None:
    log.warning("the last good manifests stay in force", finding=str(what))


def models(entries: Iterable[Entry]) -> Iterator[tuple[Entry, tuple[Cohort, ...]]]:
    """Pick the models, each with the cohorts that it has here."""
    for entry in entries:
        if entry.kind == "ModelDeployment":
            yield entry, cast(ModelBody, decode_body(entry)).cohorts


def summary(entries: Sequence[Entry], upstreams: Iterable[Upstream]) -> Iterator[str]:
    """Say what is served, in one line for each object."""
    if not any(entry.kind == "TenantQuota" for entry in entries):
        yield "nobody may call: add a TenantQuota, and a Secret with a key"
    for entry in entries:
        match decode_body(entry):
            case ModelBody(public_name=name, cohorts=cohorts):
                at = [f"{u.host}:{u.port}" for u in upstreams if u.model == entry.name]
                where = ", ".join(at) if cohorts else "nowhere: no variant runs in this region"
                yield f"model   {name} -> {where}"
            case RouteBody(models=names, routes=routes):
                yield f"route   {', '.join(names)} -> {_lead(routes)}"
            case TenantBody(tenant=tenant, keys=keys):
                yield f"tenant  {tenant}: keys {', '.join(key.name for key in keys) or 'none'}"
            case SafetyBody(rules=rules, shadow=shadow):
                what = "observes" if shadow else "enforces"
                found = ", ".join(rule.name for rule in rules)
                yield f"safety  {entry.name} {what} {found or 'no rule'}"


def _lead(routes: Sequence[RouteRule]) -> str:
    """Tell where the first routes lead; a single one needs no name."""
    if len(routes) == 1:
        return _leads(routes[0])
    told = [f"{route.name}: {_leads(route)}" for route in routes[:MOST_ROUTES]]
    more = [f"and {rest} more"] if (rest := len(routes) - len(told)) else []
    return "; ".join([*told, *more])


def _leads(route: RouteRule) -> str:
    to = ", ".join(f"{_target(target)} ({target.weight})" for target in route.targets)
    return to or "a fixed answer"


def _target(target: Target) -> str:
    return f"{target.model}/{'|'.join(target.variants)}" if target.variants else target.model


def authority(host: str) -> Authorize:
    """Open the whole admin port to this machine, and its open part to others: none can be asked."""
    access: Access = "allowed" if ip_address(host).is_loopback else "forbidden"

    async def authorize(_token: str, _path: str) -> Access:
        return access

    return authorize


async def serve(
    paths: Sequence[str], upstreams: Sequence[Upstream], *, host: str, region: str, **given: int
) -> None:
    """Serve until SIGTERM or SIGINT; nobody else has to be told before that ends.

    Args:
        paths: files and folders.
        upstreams: the model servers.
        host: address to listen on.
        region: to serve for.
        given: more settings, by their names.

    Raises:
        TerminalError: something in the files, or a setting, is wrong.
    """
    process = Process(
        read_settings(namespace="local", region=region, **given),
        lambda gateway: Files(paths, region, upstreams, gateway),
        authority(host),
        host=host,
        accept_seconds=0.0,
    )
    await process.run(stopping())
