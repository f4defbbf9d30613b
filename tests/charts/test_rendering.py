import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from headgate_api.labels import GATEWAY_AUDIENCE
from headgate_gateway.settings import read_settings
from headgate_operator.settings import Settings as OperatorSettings

from .exported import metric_names
from .helm import CHART, DEFAULTS, NAMESPACE, VALUES, render, run

CRDS = ("modeldeployments", "routingpolicies", "safetypolicies", "tenantquotas")
# Not among the schemas of Kubernetes itself.
FOREIGN = {"CustomResourceDefinition", "PodMonitor", "PrometheusRule"}
PARTS = ("operator", "gateway")

every_values_file = pytest.mark.parametrize("values", sorted(VALUES))
every_part = pytest.mark.parametrize("part", PARTS)


@every_values_file
def test_kubernetes_1_34_knows_every_field_that_is_rendered(values: str) -> None:
    for manifest in render(values).manifests:
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, "1.34", strict=True)


@every_values_file
def test_helm_lint_has_nothing_to_say(values: str) -> None:
    assert "0 chart(s) failed" in run("lint", "--strict", str(CHART), "-f", str(VALUES[values]))


@every_values_file
def test_nothing_is_rendered_as_null(values: str) -> None:
    """Server-side apply refuses a null, or GitOps shows it as drift for ever."""

    def nulls(node: Any, path: str) -> list[str]:
        if isinstance(node, dict):
            return [found for key, value in node.items() for found in nulls(value, f"{path}.{key}")]
        if isinstance(node, list):
            return [found for i, value in enumerate(node) for found in nulls(value, f"{path}[{i}]")]
        return [path] if node is None else []

    rendered = [
        manifest
        for manifest in render(values).manifests
        if manifest["kind"] != "CustomResourceDefinition"
    ]
    assert [] == nulls(rendered, "")


@every_values_file
def test_no_resource_of_our_own_kinds_is_part_of_the_release(values: str) -> None:
    """Helm cannot install them together with their CRDs on an empty cluster."""
    kinds = {manifest["apiVersion"].split("/")[0] for manifest in render(values).manifests}
    assert "headgate.dev" not in kinds


def test_a_release_of_another_name_has_names_of_its_own() -> None:
    text = run(
        "template", "prod", str(CHART), "--set", "region.name=eu", "--set", "crds.install=false"
    )
    names = {manifest["metadata"]["name"] for manifest in yaml.safe_load_all(text)}
    assert set() == {name for name in names if not name.startswith("prod-headgate")}


@every_part
def test_the_number_of_replicas_is_what_values_say(part: str) -> None:
    replicas = {
        values: next(
            manifest["spec"].get("replicas")
            for manifest in render(values).manifests
            if manifest["kind"] in {"Deployment", "StatefulSet"}
            and manifest["metadata"]["name"] == f"headgate-{part}"
        )
        for values in ("defaults", "teams", "openshift")
    }
    expected = {
        "operator": {"defaults": 1, "teams": 2, "openshift": 1},
        "gateway": {"defaults": 2, "teams": 3, "openshift": None},
    }
    assert expected[part] == replicas


@every_part
def test_a_pod_of_ours_may_nothing_that_it_does_not_need(part: str) -> None:
    spec, container = render().pod_spec(part), render().container(part)
    assert {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    } == spec["securityContext"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert set() == {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


@every_part
def test_the_platform_may_choose_the_user(part: str) -> None:
    assert {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    } == render("openshift").pod_spec(part)["securityContext"]


@every_part
def test_probes_ask_the_admin_port(part: str) -> None:
    container = render().container(part)
    asked = {
        probe: (container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {
        "startupProbe": ("/healthz", "admin"),
        "livenessProbe": ("/healthz", "admin"),
        "readinessProbe": ("/readyz", "admin"),
    } == asked
    assert {"name": "admin", "containerPort": 9090} in container["ports"]


@every_part
def test_a_busy_pod_has_half_a_minute_before_its_liveness_is_in_doubt(part: str) -> None:
    probe = render().container(part)["livenessProbe"]
    assert 30 <= probe["periodSeconds"] * probe["failureThreshold"]


@every_part
def test_memory_is_bounded_and_cpu_only_asked_for(part: str) -> None:
    resources = render().container(part)["resources"]
    assert ({"cpu", "memory"}, {"memory"}) == (
        set(resources["requests"]),
        set(resources["limits"]),
    )


@every_part
def test_a_drain_of_a_node_takes_one_pod_at_a_time(part: str) -> None:
    budget = render().get("PodDisruptionBudget", f"headgate-{part}")["spec"]
    assert 1 == budget["maxUnavailable"]
    assert part == budget["selector"]["matchLabels"]["headgate.dev/part"]


@every_part
def test_pods_spread_over_nodes_and_zones_where_there_are_any(part: str) -> None:
    constraints = render().pod_spec(part)["topologySpreadConstraints"]
    assert [
        ("kubernetes.io/hostname", "ScheduleAnyway"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    ] == [(c["topologyKey"], c["whenUnsatisfiable"]) for c in constraints]


@every_part
def test_services_of_the_namespace_do_not_become_settings(part: str) -> None:
    """For a Service called headgate-gateway it would set HEADGATE_GATEWAY_PORT=tcp://..."""
    assert render().pod_spec(part)["enableServiceLinks"] is False


@every_part
def test_a_new_version_of_the_chart_alone_stops_no_pod(part: str) -> None:
    workload = render().get(*{"operator": ("Deployment", "headgate-operator"),
                              "gateway": ("StatefulSet", "headgate-gateway")}[part])  # fmt: skip
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert labels == workload["spec"]["selector"]["matchLabels"]


def test_a_gateway_has_time_to_end_its_streams() -> None:
    for values, grace in {"defaults": 615, "teams": 75}.items():
        assert grace == render(values).pod_spec("gateway")["terminationGracePeriodSeconds"]


def test_the_admin_port_is_on_no_service() -> None:
    ports = [port["targetPort"] for service in render().all("Service")
             for port in service["spec"]["ports"]]  # fmt: skip
    assert ["http", "http"] == ports


def test_settings_of_the_operator() -> None:
    env = {item["name"]: item["value"] for item in render("teams").container("operator")["env"]}
    assert {
        "HEADGATE_OPERATOR_NAMESPACE": NAMESPACE,
        "HEADGATE_OPERATOR_REGION": "eu-west",
        "HEADGATE_OPERATOR_WATCH_NAMESPACES": "team-a,team-b",
        "HEADGATE_OPERATOR_RUNTIME_IMAGE": "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
        "HEADGATE_OPERATOR_TRTLLM_SERVE_IMAGE": "nvcr.io/nvidia/tensorrt-llm/release:1.2.1",
        "HEADGATE_OPERATOR_GATEWAY_URL": f"http://headgate-gateway.{NAMESPACE}.svc:80/v1",
        "HEADGATE_OPERATOR_OWNER": "headgate-owner",
        "HEADGATE_OPERATOR_PORT": "9090",
        "HEADGATE_OPERATOR_GATEWAY_TOKEN": "/var/run/secrets/headgate.dev/gateway/token",
        "HEADGATE_OPERATOR_LEASE_DURATION": "5",
        "HEADGATE_OPERATOR_RENEW_DEADLINE": "3",
        "HEADGATE_OPERATOR_RETRY_PERIOD": "1",
    } == env


def test_the_operator_shows_gateways_a_token_that_only_gateways_take() -> None:
    (volume,) = render().pod_spec("operator")["volumes"]
    (source,) = volume["projected"]["sources"]
    (mount,) = render().container("operator")["volumeMounts"]
    env = {item["name"]: item["value"] for item in render().container("operator")["env"]}

    assert GATEWAY_AUDIENCE == source["serviceAccountToken"]["audience"]
    assert volume["name"] == mount["name"]
    assert env["HEADGATE_OPERATOR_GATEWAY_TOKEN"] == (
        f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    )


def test_settings_of_a_gateway() -> None:
    env = {item["name"]: item["value"] for item in render("teams").container("gateway")["env"]}
    assert {
        "HEADGATE_GATEWAY_NAMESPACE": NAMESPACE,
        "HEADGATE_GATEWAY_REGION": "eu-west",
        "HEADGATE_GATEWAY_WATCH_NAMESPACES": "team-a,team-b",
        "HEADGATE_GATEWAY_PORT": "8080",
        "HEADGATE_GATEWAY_ADMIN_PORT": "9090",
        "HEADGATE_GATEWAY_SNAPSHOT_DIR": "/var/lib/headgate/snapshot",
        "HEADGATE_GATEWAY_DRAIN": "60",
    } == env


@every_values_file
def test_the_programs_take_their_settings(values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in PARTS:
        for item in render(values).container(part)["env"]:
            monkeypatch.setenv(item["name"], item["value"])
    operator, gateway = OperatorSettings(), read_settings()

    assert (operator.region, operator.namespace) == (gateway.region, gateway.namespace)
    assert (operator.namespaces or (None,)) == gateway.namespaces
    assert operator.port == operator.gateway_port == gateway.admin_port


@pytest.mark.parametrize(
    ("values", "watched"),
    [("defaults", NAMESPACE), ("all-namespaces", "*"), ("teams", "team-a,team-b")],
)
def test_both_programs_watch_the_same_namespaces(values: str, watched: str) -> None:
    for part in PARTS:
        env = {item["name"]: item["value"] for item in render(values).container(part)["env"]}
        assert watched == env[f"HEADGATE_{part.upper()}_WATCH_NAMESPACES"]


def test_an_image_is_named_by_digest_by_tag_or_by_the_version_of_the_chart() -> None:
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    assert [
        "localhost/headgate/operator:0.1.0",
        "registry.example/headgate/operator:0.1.0-rc.1",
        f"registry.example/headgate/gateway@{digest}",
    ] == [
        render().container("operator")["image"],
        render("teams").container("operator")["image"],
        render("teams").container("gateway")["image"],
    ]


def test_gateways_start_side_by_side_and_keep_their_names() -> None:
    spec = render().get("StatefulSet", "headgate-gateway")["spec"]
    headless = render().get("Service", spec["serviceName"])["spec"]
    assert ("Parallel", "None") == (spec["podManagementPolicy"], headless["clusterIP"])


def test_the_last_snapshot_lies_on_a_volume_only_where_asked_for() -> None:
    spec = {
        values: render(values).get("StatefulSet", "headgate-gateway")["spec"]
        for values in ("defaults", "teams")
    }
    (scratch,) = spec["defaults"]["template"]["spec"]["volumes"]
    (claim,) = spec["teams"]["volumeClaimTemplates"]
    assert {"name": "state", "emptyDir": {"sizeLimit": "1Gi"}} == scratch
    assert {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1Gi"}},
    } == claim["spec"]
    assert "volumes" not in spec["teams"]["template"]["spec"]
    assert "volumeClaimTemplates" not in spec["defaults"]


def test_the_data_port_speaks_tls_with_a_secret_that_is_named() -> None:
    release = render(DEFAULTS, "gateway.tls.secretName=gateway-tls")
    container = release.container("gateway")
    folder = "/etc/headgate/tls"

    assert {"name": "HEADGATE_GATEWAY_TLS_DIR", "value": folder} in container["env"]
    assert {"name": "tls", "mountPath": folder, "readOnly": True} in container["volumeMounts"]
    volume = {"name": "tls", "secret": {"secretName": "gateway-tls"}}
    assert volume in release.pod_spec("gateway")["volumes"]
    (port,) = release.get("Service", "headgate-gateway")["spec"]["ports"]
    assert "https" == port["appProtocol"]
    persistent = render("teams", "gateway.tls.secretName=gateway-tls")
    assert [volume] == persistent.pod_spec("gateway")["volumes"]


def test_the_service_can_be_a_node_port() -> None:
    service = render("teams").get("Service", "headgate-gateway")
    (port,) = service["spec"]["ports"]
    assert ("NodePort", 80, 30080) == (service["spec"]["type"], port["port"], port["nodePort"])
    assert {"example.com/exposed": "true"} == service["metadata"]["annotations"]


def test_pods_run_where_values_say() -> None:
    spec = render("teams").pod_spec("operator")
    assert {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"node-role.kubernetes.io/infra": ""},
        "tolerations": [
            {"key": "node-role.kubernetes.io/infra", "operator": "Exists", "effect": "NoSchedule"}
        ],
        "priorityClassName": "system-cluster-critical",
    } == {
        key: spec[key]
        for key in ("imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName")
    }


def test_a_pod_monitor_is_there_only_where_asked_for() -> None:
    (monitor,) = render("openshift").all("PodMonitor")
    assert "prometheus" == monitor["metadata"]["labels"]["release"]
    assert [{"port": "admin", "path": "/metrics", "interval": "30s"}] == monitor["spec"][
        "podMetricsEndpoints"
    ]
    assert [] == list(render().all("PodMonitor"))


def test_alerts_use_metrics_that_exist() -> None:
    (rules,) = render("openshift").all("PrometheusRule")
    alerts = rules["spec"]["groups"][0]["rules"]
    used = {name for alert in alerts for name in re.findall(r"headgate_\w+", alert["expr"])}
    assert used <= metric_names()
    assert all(f'{{namespace="{NAMESPACE}"' in alert["expr"] for alert in alerts)
    assert "prometheus" == rules["metadata"]["labels"]["release"]
    assert [] == list(render().all("PrometheusRule"))


def test_the_release_owns_the_snapshot() -> None:
    """Its ConfigMaps name this one as their owner, so `helm uninstall` takes them along."""
    assert "data" not in render().get("ConfigMap", "headgate-owner")


@pytest.mark.parametrize("plural", CRDS)
def test_a_crd_is_installed_as_it_was_generated_and_kept_on_uninstall(plural: str) -> None:
    name = f"{plural}.headgate.dev"
    files = (yaml.safe_load(p.read_text()) for p in (CHART / "files" / "crds").glob("*.yaml"))
    (generated,) = (crd for crd in files if crd["metadata"]["name"] == name)
    annotations = generated["metadata"].get("annotations", {})
    kept = render().get("CustomResourceDefinition", name)

    assert generated == render("defaults", "crds.keep=false").get("CustomResourceDefinition", name)
    assert generated["spec"] == kept["spec"]
    assert annotations | {"helm.sh/resource-policy": "keep"} == kept["metadata"]["annotations"]


def test_crds_can_be_left_to_somebody_else() -> None:
    assert [] == list(render("openshift").all("CustomResourceDefinition"))
