"""The pods of a cohort: a template and its files, from which the cohort has its name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from headgate_api import labels
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.runtime import EnvVar, Resources
from headgate_api.variants import Variant
from headgate_controllers.contract import Environment
from headgate_controllers.modeldeployment.gpus import RESOURCE, terms
from headgate_controllers.modeldeployment.servers import ALIVE, CONFIG_DIR, SERVERS, Server
from headgate_controllers.modeldeployment.sources import Location, claims, locate

BEFORE_STOP: Final = 5
"""Seconds between the end of a pod's readiness and SIGTERM: gateways hear of it meanwhile."""
AFTER_DRAIN: Final = 10
"""Seconds that the model server gets beyond the time for its streams."""
PROBE_PERIOD: Final = 10


@dataclass(frozen=True, slots=True)
class Cohort:
    """Pods that answer alike: one variant at one revision."""

    variant: Variant
    name: str
    revision: str
    template: Mapping[str, Any]
    files: Mapping[str, str]
    """Contents of the ConfigMap with the cohort's name."""


def cohort(mdep: ModelDeployment, variant: Variant, default_image: str) -> Cohort:
    """Build the pods of a variant and name them by their content.

    The revision is a digest of everything in the template and the files, so that pods never change
    under a name. Names that only tell objects apart, such as the uid, are left out of it.
    """
    server = SERVERS[mdep.spec.runtime.type]
    files = {"alive.py": ALIVE, **server.files(variant)}
    spec = _pod_spec(mdep, variant, server, default_image)
    annotations = dict(sorted(mdep.spec.pod.annotations.items()))
    content = json.dumps([spec, annotations, files], sort_keys=True, separators=(",", ":"))
    revision = sha256(content.encode()).hexdigest()[:8]
    name = f"{mdep.metadata.name}-{variant.name}-{revision}"
    config = {"name": "config", "configMap": {"name": name}}
    metadata: dict[str, Any] = {"labels": pod_labels(mdep, variant, revision, name)}
    if annotations:
        metadata["annotations"] = annotations
    template = {"metadata": metadata, "spec": spec | {"volumes": [config, *spec["volumes"]]}}
    if mount := server.config_mount(locate(variant.source.uri)):
        items = [{"key": mount[1], "path": mount[1]}]
        template["spec"]["volumes"].append(
            {"name": "model-config", "configMap": {"name": name, "items": items}}
        )
    return Cohort(variant, name, revision, template, files)


def default_image(mdep: ModelDeployment, env: Environment) -> str:
    """The image of a model that names none."""
    return env.trtllm_serve_image if mdep.spec.runtime.type == "trtllm-serve" else env.image


def pod_labels(mdep: ModelDeployment, variant: Variant, revision: str, name: str) -> dict[str, str]:
    return {
        labels.MANAGED_BY: "headgate",
        labels.PART: labels.MODEL_SERVER,
        labels.MODEL: mdep.metadata.name,
        labels.MODEL_UID: mdep.metadata.uid,
        labels.VARIANT: variant.name,
        labels.REVISION: revision,
        labels.COHORT: name,
        labels.RUNTIME: mdep.spec.runtime.type,
    }


def _pod_spec(
    mdep: ModelDeployment, variant: Variant, server: Server, default_image: str
) -> dict[str, Any]:
    runtime, pod = mdep.spec.runtime, mdep.spec.pod
    drain = int(runtime.drain_timeout)
    location = locate(variant.source.uri)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Triton heeds SIGTERM only once its model is loaded, and a process 1 ignores what it does
        # not heed: a pod deleted while it loads would hold its GPU for all of the grace period.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": BEFORE_STOP + drain + AFTER_DRAIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            {"key": RESOURCE, "operator": "Exists", "effect": "NoSchedule"},
            *(t.model_dump(by_alias=True, exclude_none=True) for t in pod.tolerations),
        ],
        "containers": [_container(mdep, variant, server, location, default_image)],
        "volumes": _volumes(str(runtime.shm_size), variant),
    }
    if needed := terms(variant):
        spec["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": term} for term in needed]
                }
            }
        }
    optional = {
        "nodeSelector": dict(sorted(pod.node_selector.items())),
        "priorityClassName": pod.priority_class_name,
        "serviceAccountName": pod.service_account_name,
        "runtimeClassName": pod.runtime_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in pod.image_pull_secrets],
    }
    return spec | {name: value for name, value in optional.items() if value}


def _container(
    mdep: ModelDeployment,
    variant: Variant,
    server: Server,
    location: Location,
    default_image: str,
) -> dict[str, Any]:
    runtime = mdep.spec.runtime
    mounts = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - of the pod
    ]
    mounts += [
        {"name": where.strip("/"), "mountPath": where, "readOnly": True}
        for where in claims(variant)
    ]
    if mount := server.config_mount(location):
        mounts.append({"name": "model-config", "mountPath": mount[0], "readOnly": True})
    return {
        "name": "server",
        "image": variant.image or runtime.image or default_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [server.command],
        "args": [
            *server.arguments(location, int(runtime.drain_timeout)),
            *runtime.args,
            *variant.args,
        ],
        "env": [
            {"name": "HEADGATE_VARIANT", "value": variant.name},
            {"name": "HEADGATE_QUANTIZATION", "value": variant.quantization},
            *({"name": n, "value": v} for n, v in server.environment.items()),
            *map(_env, runtime.env),
        ],
        "ports": [{"name": name, "containerPort": port} for name, port in server.ports.items()],
        "resources": _resources(mdep.spec.pod.resources, variant.gpu.count),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": BEFORE_STOP}}},
        **_probes(mdep, server),
        "volumeMounts": mounts,
    }


def _probes(mdep: ModelDeployment, server: Server) -> dict[str, Any]:
    """No port answers before the model is loaded, and health says nothing of the model's process.

    So the start is given all of loadTimeout, and liveness asks for a token.
    """
    runtime = mdep.spec.runtime
    tries = max(1, round(runtime.load_timeout / PROBE_PERIOD))
    alive = ["python3", f"{CONFIG_DIR}/alive.py", server.served_model, runtime.type]
    return {
        "startupProbe": {
            "httpGet": {"path": server.started, "port": "http"},
            "periodSeconds": PROBE_PERIOD,
            "failureThreshold": tries,
        },
        "readinessProbe": {
            "httpGet": {"path": server.ready, "port": "http"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
        "livenessProbe": {
            "exec": {"command": alive},
            "periodSeconds": PROBE_PERIOD,
            "timeoutSeconds": 30,  # the program itself gives up after 4, a starved one later
            "failureThreshold": 3,
            # Nothing of a dead model can be drained, and its server waits for it to the end.
            "terminationGracePeriodSeconds": 10,
        },
    }


def _volumes(shm_size: str, variant: Variant) -> list[dict[str, Any]]:
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm_size}}
    mounted = [
        {
            "name": where.strip("/"),
            "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
        }
        for where, claim in claims(variant).items()
    ]
    return [shm, *mounted]


def _resources(asked: Resources, gpus: int) -> dict[str, Any]:
    limits = {**dict(sorted(asked.limits.items())), RESOURCE: gpus}
    requests = dict(sorted(asked.requests.items()))
    return {"limits": limits} | ({"requests": requests} if requests else {})


def _env(variable: EnvVar) -> dict[str, Any]:
    if variable.secret_key_ref is None:
        return {"name": variable.name, "value": variable.value or ""}
    reference = {"name": variable.secret_key_ref.name, "key": variable.secret_key_ref.key}
    return {"name": variable.name, "valueFrom": {"secretKeyRef": reference}}
