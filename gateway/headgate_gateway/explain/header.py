"""The explanation that comes with an answer: one header, for clients that ask and may have it."""

import json
from collections.abc import Iterator
from typing import Final

from headgate_gateway.edge.heads import EXPLAIN
from headgate_gateway.explain.explain import rules_of, stages_of
from headgate_gateway.explain.explanation import Rule, Stage
from headgate_gateway.explain.record import decided
from headgate_gateway.request import Request

LONGEST: Final = 2048
"""Bytes of the header: clients and proxies take no heads without end."""
REST: Final = "; ..."


def explanation(request: Request) -> bytes:
    """Explain an answer as far as it has come, in a header line for tenants with the grant."""
    if request.head.headers.get(EXPLAIN) != b"1":
        return b""
    credential = getattr(request, "credential", None)
    if credential is None or "Explain" not in credential.tenant.body.grants:
        return b""
    return b"x-headgate-explanation: %s\r\n" % brief(request)


def brief(request: Request) -> bytes:
    """Say in visible ASCII what was decided. Of what is too long, the end is left out."""
    said = "; ".join(_parts(request))
    if len(said) > LONGEST:
        said = said[: LONGEST - len(REST)].rpartition("; ")[0] + REST
    return bytes(byte if 32 <= byte < 127 else 63 for byte in said.encode("ascii", "replace"))


def _parts(request: Request) -> Iterator[str]:
    decision = request.decision
    if decision is None:
        model = getattr(request, "model", None)
        yield "not routed" if model is None else f"direct; target={model.identity.name}"
        return
    body, found = decision.route.body, decided(decision)
    stages = stages_of(found, request.timeline.started)
    last = stages[-1].route if stages else body.routes[decision.rule].name
    yield f"{decision.route.identity.name}/{last}"
    for rule in rules_of(body, found, reasons=False):
        if rule.when is not None and rule.matched in ("yes", "no", "error"):
            yield _rule(rule)
    for stage in stages:
        yield _stage(stage, alone=len(stages) == 1)


def _rule(rule: Rule) -> str:
    read = ", ".join(f"{name}={json.dumps(value)}" for name, value in rule.read.items())
    return f"{rule.route}={rule.matched}({rule.error or read})"


def _stage(stage: Stage, *, alone: bool) -> str:
    to = f"{stage.model}({stage.why})" if stage.model is not None else "none"
    if stage.why == "fixed":
        to = "a fixed answer"
    if stage.speculation is not None:
        to = f"{to}, {stage.speculation.outcome}({stage.speculation.reason})"
    if alone:
        return f"target={to}"
    reason = f": {stage.reason}" if stage.reason is not None else ""
    return f"stage {stage.route}={stage.result or 'now'}({to}{reason})"
