"""A request as a gateway would take it, by policy from files. Nothing is sent anywhere.

The files are judged and compiled as `headgate serve --manifests` does it, and the request goes
through a gateway's own stages, up to where a model server would be asked.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from headgate_api.errors import TerminalError
from headgate_api.snapshot import Entry, Pointer
from headgate_cli.local import models
from headgate_cli.prospects import look, prospects
from headgate_cli.validate import checks
from headgate_gateway.calls.ask import Patience
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.heads import OURS, learn
from headgate_gateway.edge.identity import in_time
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.parse import Parse
from headgate_gateway.explain.explanation import Explanation, Prospect
from headgate_gateway.explain.unended import rehearsed
from headgate_gateway.gateway import Gateway
from headgate_gateway.pipeline import Pipeline, decided
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.plan import Plan
from headgate_gateway.routing.pods import Pod, Pods, Pool
from headgate_gateway.routing.stage import Stage
from headgate_gateway.routing.tables import Credential, Tables
from headgate_gateway.routing.trial import Ground
from headgate_gateway.settings import read_settings
from headgate_gateway.telemetry.setup import Telemetry
from headgate_gateway.telemetry.trace_context import Trace
from headgate_gateway.timeline import Timeline
from headgate_policy.snapshot import compile_shards

NOBODY: Final = Trace(trace_id=0, span_id=0, parent_id=0, flags=0)


class Wrong(TerminalError):
    """The request, or what is said about it."""


class Asked(NamedTuple):
    """What a client would send, and when."""

    body: bytes
    tenant: str | None  # None: the only one
    key: str | None  # name; None: the tenant's first
    headers: Mapping[str, str]  # names in lower case
    at: datetime


async def rehearse(paths: Sequence[str], region: str, asked: Asked) -> Explanation:
    """Put a request through a gateway's stages, as if every variant had a pod that is ready.

    Raises:
        Wrong: the request cannot be read, or its tenant, key or model is not there.
        TerminalError: something in the files is wrong; the message has a line for each finding.
    """
    checked = checks()(paths, region, datetime.now(UTC))
    if checked.findings:
        raise TerminalError("nothing is explained:\n" + "\n".join(map(str, checked.findings)))
    gateway = await _gateway(checked.entries, region)
    tables = gateway.snapshots.tables
    request = _request(asked, tables, credential(tables, asked.tenant, asked.key))
    refusal = in_time(request.credential, request.now)
    if isinstance(refusal, Refusal):
        return rehearsed(request, refusal)
    clock = time.monotonic
    verdict = await decided(Pipeline((Parse(),), gateway.metrics, clock).ask(request))
    if isinstance(verdict, Refusal):
        raise Wrong(f"the request: {verdict.message}")
    verdict = await decided(gateway.inference.pipeline.ask(request))
    if isinstance(verdict, Refusal) and verdict.code == Code.MODEL_NOT_FOUND:
        raise Wrong(_unknown(request))
    if isinstance(verdict, Refusal):
        return rehearsed(request, verdict)
    coming: tuple[Prospect, ...] = ()
    if request.plan is not None:
        ground = gateway.inference.ground
        await _begin(request, request.plan, ground)
        coming = await prospects(request, request.plan, ground)
    found = rehearsed(request, None)
    found.prospects = coming
    return found


async def _gateway(entries: Sequence[Entry], region: str) -> Gateway:
    """Make a gateway that runs these entries, and listens nowhere."""
    settings = read_settings(namespace="local", region=region)
    gateway = Gateway(
        region=region,
        pods=Pods(),
        limits=Limits(),
        patience=Patience(),
        most=settings.max_requests,
        default_max_tokens=settings.default_max_tokens,
        telemetry=Telemetry(write=None),
    )
    for pod in _pods(entries):
        gateway.pods.place((pod.pool.namespace, pod.name), pod)
    shards = compile_shards(entries)
    pointer = Pointer(schema=1, epoch=1, sequence=1, shards=shards.digests)
    await gateway.snapshots.swap(pointer, shards.contents)
    return gateway


def _pods(entries: Iterable[Entry]) -> Iterable[Pod]:
    for entry, cohorts in models(entries):
        pool = Pool(entry.namespace, entry.uid)
        for cohort in cohorts:
            name = cohort.name
            yield Pod(name=name, uid=name, host="127.0.0.1", port=9, cohort=name, pool=pool)


def credential(tables: Tables, tenant: str | None, key: str | None) -> Credential:
    """Find who asks.

    Raises:
        Wrong: there is no such tenant or key, or it is not clear which one is meant.
    """
    found = {one.tenant.name: one.tenant for one in tables.keys.values()}
    if not found:
        raise Wrong("no tenant of the manifests has a key: nobody may call")
    names = ", ".join(sorted(found))
    if tenant is None and len(found) > 1:
        raise Wrong(f"say who asks, with --tenant; there are: {names}")
    asking = found.get(tenant or names)
    if asking is None:
        raise Wrong(f"no tenant {tenant} has a key; those that have: {names}")
    for one in asking.body.keys:
        if key in (None, one.name):
            return Credential(asking, one)
    keys = ", ".join(one.name for one in asking.body.keys)
    raise Wrong(f"tenant {asking.name} has no key {key}; there are: {keys}")


def _request(asked: Asked, tables: Tables, who: Credential) -> Request:
    headers = {}
    for name, value in asked.headers.items():
        known = learn(name.encode("latin-1", "replace"))
        if known != OURS:  # the edge drops them
            headers[known] = value.encode("utf-8", "replace")
    request = Request(
        id="",
        head=Head("POST", endpoint(asked.body), headers),
        body=asked.body,
        tables=tables,
        loaded=True,
        now=asked.at.timestamp(),
        trace=NOBODY,
        timeline=Timeline(time.monotonic()),
    )
    request.credential = who
    return request


def endpoint(body: bytes) -> str:
    """Tell by a body where it is sent to.

    >>> endpoint(b'{"prompt": ""}'), endpoint(b'{"input": ""}'), endpoint(b'{"messages": []}')
    ('/v1/completions', '/v1/embeddings', '/v1/chat/completions')
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = {}
    if "messages" not in fields:
        if "prompt" in fields:
            return "/v1/completions"
        if "input" in fields:
            return "/v1/embeddings"
    return "/v1/chat/completions"


async def _begin(request: Request, plan: Plan, ground: Ground) -> None:
    """Take the first step of a request whose first answer need not be its last."""
    stage = Stage(route=plan.first.rule.name)
    plan.decision.stages.append(stage)
    made = await look(request, plan, plan.first, stage, ground)
    if isinstance(made, Refusal):
        stage.result, stage.reason = "failed", made.code
    elif made is not None:
        request.task, request.fitted = made.task, made.fitted


def _unknown(request: Request) -> str:
    tenant = request.credential.tenant
    space = request.tables.space(tenant.namespace)
    names = ", ".join(name for name, _ in space.names() if tenant.may_use(name)) or "none"
    return f"tenant {tenant.name} may use no model {request.asked.model!r}; it may use: {names}"
