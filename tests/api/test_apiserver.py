"""The CRDs as a real API server takes them, and what users meet there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from headgate_api import crd
from headgate_api.kinds import KINDS, parse, unknown_fields
from headgate_cluster.errors import ClusterError

from .conftest import Server
from .manifests import COMPLETE, EXAMPLES, HERE, MANUAL, MINIMAL, Manifest, name_of

pytestmark = pytest.mark.apiserver

Kubectl = Callable[..., str]
CASES = yaml.safe_load((HERE / "invalid.yaml").read_text())["cases"]
UNCHECKED = "<nil>: Invalid value: null: some validation rules were not checked"
MODEL, POLICY, TENANT, SAFETY = MINIMAL


def apply(kubectl: Kubectl, manifest: Manifest) -> None:
    kubectl("apply", "--server-side", "--warnings-as-errors", "-f", "-", stdin=json.dumps(manifest))


def get(kubectl: Kubectl, what: str) -> Manifest:
    return cast("Manifest", json.loads(kubectl("get", what, "-o", "json")))


def test_the_server_takes_the_four_crds_without_a_warning(crds: str) -> None:
    assert 4 == crds.count("serverside-applied")


class TestRefusals:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_say_what_is_wrong(self, server: Server, case: dict[str, Any]) -> None:
        refused = server.create(case["manifest"])

        assert "Failure" == refused.get("status"), f"accepted: {refused}"
        causes = refused.get("details", {}).get("causes", ())
        said = [f"{cause['field']}: {cause['message']}" for cause in causes]
        faults = [fault for fault in said if not fault.startswith(UNCHECKED)]
        expected = case["says"] if isinstance(case["says"], list) else [case["says"]]
        assert expected == (sorted(faults) or [refused["message"]])

    def test_are_what_kubectl_prints(self, kubectl: Kubectl) -> None:
        manifest = {**MODEL, "spec": {**MODEL["spec"], "model": {"name": "my model"}}}

        with pytest.raises(ClusterError, match='"my model" is no model name: use letters'):
            apply(kubectl, manifest)

    def test_name_an_unknown_field_at_server_side_apply_too(self, kubectl: Kubectl) -> None:
        with pytest.raises(ClusterError, match=r"\.spec\.spend: field not declared in schema"):
            apply(kubectl, {**TENANT, "spec": {**TENANT["spec"], "spend": []}})


class TestWhatNeverChanges:
    @pytest.mark.parametrize("name", ["other", None])
    def test_a_models_public_name(self, kubectl: Kubectl, name: str | None) -> None:
        apply(kubectl, {**MODEL, "spec": {**MODEL["spec"], "model": {"name": "first"}}})

        patch = json.dumps({"spec": {"model": {"name": name}}})
        with pytest.raises(ClusterError, match=r"spec\.model\.name: .*cannot change: clients"):
            kubectl("patch", "mdep", "minimal", "--type=merge", "-p", patch)

    def test_a_tenants_name(self, kubectl: Kubectl) -> None:
        apply(kubectl, TENANT)

        patch = json.dumps({"spec": {"tenant": "other"}})
        with pytest.raises(ClusterError, match=r"spec\.tenant: .*cannot change: windows"):
            kubectl("patch", "tq", "minimal", "--type=merge", "-p", patch)


class TestDefaults:
    @pytest.mark.parametrize("manifest", MINIMAL, ids=name_of)
    def test_are_the_models_own(self, server: Server, manifest: Manifest) -> None:
        kind = manifest["kind"]

        assert parse(kind, manifest).spec == parse(kind, server.create(manifest)).spec

    def test_of_a_model_are_written_out(self, server: Server) -> None:
        assert {
            "suspend": False,
            "replicas": 1,
            "model": {},
            "runtime": {
                "type": "triton-llmapi",
                "shmSize": "1Gi",
                "loadTimeout": "30m",
                "drainTimeout": "5m",
            },
            "variants": [
                {
                    "name": "a",
                    "source": {"uri": "hf://org/name@v1"},
                    "quantization": "none",
                    "gpu": {"count": 1},
                }
            ],
            "rollout": {"progressDeadline": "1h"},
        } == server.create(MODEL)["spec"]

    def test_of_a_routing_policy_are_written_out(self, server: Server) -> None:
        written = server.create({**POLICY, "spec": {**POLICY["spec"], "hedging": {}}})["spec"]

        assert "Single" == written["architecture"]
        assert {"key": "Session", "header": "x-session-id", "ttl": "1h"} == written["stickiness"]
        assert {
            "name": "all",
            "role": "Entry",
            "targets": [{"modelRef": {"name": "minimal"}}],
            "streaming": {
                "mode": "Allowed",
                "boundary": "Sentence",
                "maxCharacters": 400,
                "maxHold": "500ms",
                "heartbeat": "15s",
                "onUpstreamLoss": "Error",
            },
        } == written["routes"][0]
        assert {
            "class": "Interactive",
            "total": "2m",
            "stream": "10m",
            "firstSegment": "30s",
            "idleToken": "15s",
            "reserve": "500ms",
        } == written["deadlines"]
        assert {
            "maxAttempts": 2,
            "budgetPercent": 20,
            "minConcurrent": 3,
            "backoffBase": "100ms",
            "backoffMax": "2s",
        } == written["retries"]
        assert {"after": "p95", "maxPercent": 5} == written["hedging"]
        assert {
            "policy": "LeastInFlight",
            "outlierDetection": {
                "consecutiveFailures": 5,
                "baseEjectionTime": "30s",
                "maxEjectionPercent": 50,
            },
        } == written["loadBalancing"]

    def test_of_a_safety_policy_are_written_out(self, server: Server) -> None:
        assert {"appliesTo": {}, "rollout": {"mode": "Enforce"}} == server.create(SAFETY)["spec"]


class TestGitOps:
    """What is live must not differ from what is in Git, and a second sync must change nothing."""

    @pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
    def test_an_example_applied_twice_changes_nothing(self, kubectl: Kubectl, path: Path) -> None:
        def versions() -> list[tuple[str, str, int]]:
            kubectl("apply", "--server-side", "--warnings-as-errors", "-f", str(path))
            objects = json.loads(kubectl("get", "-f", str(path), "-o", "json"))
            metas = [one["metadata"] for one in objects.get("items", [objects])]
            return [
                (meta["uid"], meta["resourceVersion"], meta.get("generation", 0)) for meta in metas
            ]

        assert versions() == versions()

    @pytest.mark.parametrize(("page", "manifest"), MANUAL, ids=name_of)
    def test_a_manifest_of_the_manual_applies_as_it_stands(
        self, kubectl: Kubectl, page: Path, manifest: str
    ) -> None:
        kubectl("apply", "--server-side", "--warnings-as-errors", "-f", "-", stdin=manifest)

    @pytest.mark.parametrize("manifest", COMPLETE, ids=name_of)
    def test_every_field_stays_as_written(self, kubectl: Kubectl, manifest: Manifest) -> None:
        apply(kubectl, manifest)
        plural = KINDS[manifest["kind"]].plural
        live = get(kubectl, f"{plural}/complete")

        assert manifest["spec"] == only(live["spec"], manifest["spec"])
        assert () == unknown_fields(manifest["kind"], live)

    def test_every_field_was_tried(self) -> None:
        left = set()
        for manifest in COMPLETE:
            spec = crd.schema(KINDS[manifest["kind"]])["properties"]["spec"]
            left |= missing(spec, [manifest["spec"]], "spec")

        assert {"spec.model.chatTemplate.inline"} == left  # goes without configMapKeyRef only

    def test_an_ordered_lists_items_get_no_fields(self, server: Server) -> None:
        routes = server.create(POLICY)["spec"]["routes"]

        assert [{"modelRef": {"name": "minimal"}}] == routes[0]["targets"]


def only(live: Any, wanted: Any) -> Any:
    """The part of `live` that a manifest speaks of."""
    match live, wanted:
        case dict(), dict():
            return {key: only(live[key], wanted[key]) for key in live if key in wanted}
        case list(), list() if len(live) == len(wanted):
            return [only(one, other) for one, other in zip(live, wanted, strict=True)]
        case _:
            return live


def missing(schema: dict[str, Any], values: list[Any], path: str) -> set[str]:
    """Fields of a schema that none of `values` has."""
    if "items" in schema:
        return missing(schema["items"], [item for value in values for item in value], f"{path}[]")
    found: set[str] = set()
    for name, field in schema.get("properties", {}).items():
        inner = [value[name] for value in values if name in value]
        here = f"{path}.{name}"
        found |= missing(field, inner, here) if inner else {here}
    return found


class TestScale:
    def test_answers_from_the_default(self, kubectl: Kubectl) -> None:
        apply(kubectl, MODEL)
        patch = json.dumps({"status": {"replicas": 1, "selector": "headgate.dev/model=minimal"}})
        kubectl("patch", "mdep", "minimal", "--subresource=status", "--type=merge", "-p", patch)

        scale = json.loads(kubectl("get", "mdep", "minimal", "--subresource=scale", "-o", "json"))

        assert {"replicas": 1} == scale["spec"]
        assert {"replicas": 1, "selector": "headgate.dev/model=minimal"} == scale["status"]

    def test_outlives_the_next_apply(self, kubectl: Kubectl) -> None:
        apply(kubectl, MODEL)
        kubectl("scale", "mdep", "minimal", "--replicas=3")
        apply(kubectl, MODEL)

        assert 3 == get(kubectl, "mdep/minimal")["spec"]["replicas"]

    def test_is_bounded(self, kubectl: Kubectl) -> None:
        apply(kubectl, MODEL)
        with pytest.raises(ClusterError, match="less than or equal to 1000"):
            kubectl("scale", "mdep", "minimal", "--replicas=1001")


READY = {
    "type": "Ready",
    "status": "True",
    "reason": "ProbeAnswered",
    "message": "2 of 2 replicas answer",
    "observedGeneration": 1,
    "lastTransitionTime": "2030-01-02T12:00:00Z",
}
STATUS: dict[str, Any] = {
    "ModelDeployment": {
        "modelName": "org/model",
        "replicas": 3,
        "readyReplicas": 2,
        "stableRevision": "a-0123abcd",
    },
    "RoutingPolicy": {"claimed": 1, "models": [{"name": "chat", "state": "Held"}]},
    "TenantQuota": {"tenant": "minimal", "keysActive": 2},
    "SafetyPolicy": {},
}
WIDE = {
    "ModelDeployment": (
        "NAME READY REASON MODEL REPLICAS UP REVISION AGE RUNTIME MESSAGE",
        "minimal True ProbeAnswered org/model 3 2 a-0123abcd triton-llmapi 2 of 2 replicas answer",
    ),
    "RoutingPolicy": (
        "NAME READY REASON MODELS ARCH AGE HELD MESSAGE",
        'minimal True ProbeAnswered ["chat"] Single 1 2 of 2 replicas answer',
    ),
    "TenantQuota": (
        "NAME READY REASON TENANT AGE KEYS MESSAGE",
        "minimal True ProbeAnswered minimal 2 2 of 2 replicas answer",
    ),
    "SafetyPolicy": (
        "NAME READY REASON MODE AGE MESSAGE",
        "minimal True ProbeAnswered Enforce 2 of 2 replicas answer",
    ),
}


class TestKubectl:
    @pytest.mark.parametrize("manifest", MINIMAL, ids=name_of)
    def test_get_shows_what_matters(self, kubectl: Kubectl, manifest: Manifest) -> None:
        apply(kubectl, manifest)
        resource = KINDS[manifest["kind"]]
        patch = json.dumps({"status": {**STATUS[resource.kind], "conditions": [READY]}})
        short = resource.short_name
        kubectl("patch", short, "minimal", "--subresource=status", "--type=merge", "-p", patch)

        head, row = kubectl("get", short, "-o", "wide").splitlines()

        age = head.index("AGE")
        cells = (row[:age] + row[age:].split(maxsplit=1)[1]).split()
        assert WIDE[resource.kind] == (" ".join(head.split()), " ".join(cells))

    def test_get_headgate_lists_the_four_kinds(self, kubectl: Kubectl) -> None:
        for manifest in MINIMAL:
            apply(kubectl, manifest)

        names = kubectl("get", "headgate", "-o", "name").split()

        assert {f"{r.kind.lower()}.headgate.dev/minimal" for r in KINDS.values()} == set(names)

    def test_explain_is_the_manual(self, kubectl: Kubectl) -> None:
        said = kubectl("explain", "mdep.spec.rollout.progressDeadline")

        assert "After so long without a new ready pod a change is reported as stuck." in said
        assert "Map of string keys and values" in kubectl("explain", "mdep.metadata.labels")

    def test_wait_understands_the_conditions(self, kubectl: Kubectl) -> None:
        apply(kubectl, SAFETY)
        patch = json.dumps({"status": {"conditions": [READY]}})
        kubectl("patch", "spol", "minimal", "--subresource=status", "--type=merge", "-p", patch)

        said = kubectl("wait", "spol", "minimal", "--for=condition=Ready", "--timeout=30s")

        assert "condition met" in said
