"""The health check of docs/argocd, run by a real Lua on statuses as the operator writes them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime  # the language of Argo CD's interpreter

from headgate_api.conditions import Mark, Reason, settle

from .helm import ROOT

ARGOCD = ROOT / "docs" / "argocd"
SCRIPT = (ARGOCD / "health.lua").read_text()
NOW = datetime(2026, 1, 1, tzinfo=UTC)

ACCEPTED = Mark("Accepted", "True", Reason.SPEC_ACCEPTED, "the spec makes sense")
AVAILABLE = Mark("Available", "True", Reason.MINIMUM_REPLICAS_READY, "2 replicas answer")
READY = Mark("Ready", "True", Reason.PROBE_ANSWERED, "2 of 2 replicas answer")
STARTING = Mark("Ready", "Unknown", Reason.STARTING, "0 of 2 replicas answer")
COMPLETE = Mark("Progressing", "False", Reason.ROLLOUT_COMPLETE, "2 of 2 replicas answer")
ROLLING = Mark("Progressing", "True", Reason.ROLLOUT_RUNNING, "1 of 2 replicas is new")
SCALING = Mark("Progressing", "True", Reason.SCALING, "2 of 3 replicas answer")
REFUSED = Mark("Accepted", "False", Reason.PRECISION_UNSUPPORTED, "variant fp8: needs Ada")
UNFIT = Mark("Ready", "False", Reason.PRECISION_UNSUPPORTED, "variant fp8: needs Ada")
DEAF = Mark("Ready", "False", Reason.PROBE_FAILED, "pod llama-0: no token")
STUCK = Mark("Progressing", "False", Reason.PROGRESS_DEADLINE_EXCEEDED, "nothing moved for 1h")
LATE = Mark("Ready", "False", Reason.PROGRESS_DEADLINE_EXCEEDED, "nothing moved for 1h")
IDLE = Mark("Progressing", "False", Reason.SUSPENDED, "spec.suspend is true")
SUSPENDED = Mark("Ready", "True", Reason.SUSPENDED, "spec.suspend is true")
ENFORCED = Mark("Ready", "True", Reason.ENFORCED, "3 gateways")
NOBODY = Mark("Ready", "Unknown", Reason.NO_GATEWAYS, "no gateway is Ready")


def health(manifest: dict[str, Any]) -> str:
    """Run the script as Argo CD does: it sees `obj`, and no standard library."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    sandboxed = lua.execute(
        "local source, object = ...; local script = assert(loadstring(source));"
        "setfenv(script, {obj = object, ipairs = ipairs}); return script",
        SCRIPT,
        lua.table_from(manifest, recursive=True),
    )
    answer = sandboxed()
    return f"{answer['status']} {answer['message']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    given: str
    marks: tuple[Mark, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    seen: int | None = 3  # generation that the status speaks of; the object is at 3
    then: str

    def manifest(self) -> dict[str, Any]:
        metadata = {"name": "llama", "generation": 3}
        if self.seen is None:
            return {"metadata": metadata, "spec": self.spec}
        conditions = settle((), self.marks, self.seen, NOW)
        status = {"observedGeneration": self.seen, "conditions": conditions}
        return {"metadata": metadata, "spec": self.spec, "status": status}


CASES = (
    Case(
        given="no status",
        seen=None,
        then="Progressing The operator has not reported yet",
    ),
    Case(
        given="a status of an older version",
        marks=(ACCEPTED, AVAILABLE, COMPLETE, READY),
        seen=2,
        then="Progressing The operator has not seen the newest version yet",
    ),
    Case(
        given="a status without Ready",
        marks=(ACCEPTED,),
        then="Progressing The operator has not said whether it is ready",
    ),
    Case(
        given="a model that answers",
        marks=(ACCEPTED, AVAILABLE, COMPLETE, READY),
        then="Healthy ProbeAnswered: 2 of 2 replicas answer",
    ),
    Case(
        given="a model that starts",
        marks=(ACCEPTED, SCALING, STARTING),
        then="Progressing Scaling: 2 of 3 replicas answer",
    ),
    Case(
        given="a rollout over pods that answer",
        marks=(ACCEPTED, AVAILABLE, ROLLING, READY),
        then="Progressing RolloutRunning: 1 of 2 replicas is new",
    ),
    Case(
        given="a refused edit over pods that answer",
        marks=(REFUSED, AVAILABLE, UNFIT),
        then="Degraded PrecisionUnsupported: variant fp8: needs Ada",
    ),
    Case(
        given="a pod that fails its probe while a rollout runs",
        marks=(ACCEPTED, AVAILABLE, ROLLING, DEAF),
        then="Degraded ProbeFailed: pod llama-0: no token",
    ),
    Case(
        given="a rollout past its deadline",
        marks=(ACCEPTED, AVAILABLE, STUCK, LATE),
        then="Degraded ProgressDeadlineExceeded: nothing moved for 1h",
    ),
    Case(
        given="a suspended model",
        marks=(ACCEPTED, IDLE, SUSPENDED),
        spec={"suspend": True},
        then="Suspended spec.suspend is true",
    ),
    Case(
        given="a refused edit of a suspended model",
        marks=(REFUSED, UNFIT),
        spec={"suspend": True},
        then="Degraded PrecisionUnsupported: variant fp8: needs Ada",
    ),
    Case(
        given="a policy in force",
        marks=(ACCEPTED, ENFORCED),
        then="Healthy Enforced: 3 gateways",
    ),
    Case(
        given="a policy without gateways",
        marks=(ACCEPTED, NOBODY),
        then="Progressing NoGateways: no gateway is Ready",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"given {case.given}")
def test_health(case: Case) -> None:
    assert case.then == health(case.manifest())


def test_a_condition_of_an_older_version_does_not_count() -> None:
    manifest = Case(given="", marks=(ACCEPTED, COMPLETE, READY), then="").manifest()
    manifest["status"]["conditions"][-1]["observedGeneration"] = 2
    assert "Progressing The operator has not said whether it is ready" == health(manifest)


def test_the_patch_for_argocd_cm_carries_the_script_for_every_kind_of_the_group() -> None:
    patch = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())
    customizations = yaml.safe_load(patch["data"]["resource.customizations"])
    assert {"headgate.dev/*": {"health.lua": SCRIPT}} == customizations
