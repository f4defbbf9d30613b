"""Children of a ModelDeployment, built from the spec alone."""

from typing import Any, Final

from headgate_api import labels
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.snapshot import Cohort as CohortBody, ModelBody, TokenizerBody
from headgate_controllers.contract import Environment, Manifest
from headgate_controllers.modeldeployment.pods import Cohort
from headgate_controllers.modeldeployment.servers import SERVERS

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""Label that the API server puts on every namespace."""


def deployment(mdep: ModelDeployment, cohort: Cohort, replicas: int) -> Manifest:
    """Build the Deployment of a cohort. Its template never changes under its name."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(mdep, cohort.name, cohort),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": int(mdep.spec.rollout.progress_deadline) + 1,
            "selector": {"matchLabels": {labels.COHORT: cohort.name}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": cohort.template,
        },
    }


def config_map(mdep: ModelDeployment, cohort: Cohort) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(mdep, cohort.name, cohort),
        "immutable": True,
        "data": dict(cohort.files),
    }


def service(mdep: ModelDeployment) -> Manifest:
    """Build the Service: names for the pods, for people and for Prometheus.

    It has no address of its own, because gateways choose pods themselves.
    """
    ports = SERVERS[mdep.spec.runtime.type].ports
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(mdep, mdep.metadata.name),
        "spec": {
            "clusterIP": "None",
            "selector": _selector(mdep),
            "ports": [{"name": name, "port": port} for name, port in ports.items()],
        },
    }


def disruption_budget(mdep: ModelDeployment) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(mdep, mdep.metadata.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(mdep)}},
    }


def network_policy(mdep: ModelDeployment, env: Environment) -> Manifest:
    """Let in gateways for answers, and the operator for its probe and the metrics."""
    release = {"matchLabels": {NAMESPACE_NAME: env.namespace}}

    def door(part: str, *ports: int) -> dict[str, Any]:
        pods = {"matchLabels": {labels.PART: part}}
        return {
            "from": [{"namespaceSelector": release, "podSelector": pods}],
            "ports": [{"port": port, "protocol": "TCP"} for port in ports],
        }

    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(mdep, mdep.metadata.name),
        "spec": {
            "podSelector": {"matchLabels": _selector(mdep)},
            "policyTypes": ["Ingress"],
            "ingress": [
                door(labels.GATEWAY, labels.HTTP_PORT),
                door(labels.OPERATOR, *SERVERS[mdep.spec.runtime.type].probed),
            ],
        },
    }


def body(
    mdep: ModelDeployment,
    cohorts: tuple[CohortBody, ...],
    *,
    created: int,
    chat_template: str | None,
) -> ModelBody:
    """Build the model as gateways know it."""
    tokenizer = mdep.spec.model.tokenizer
    return ModelBody(
        public_name=public_name(mdep),
        created=created,
        cohorts=cohorts,
        chat_template=chat_template,
        max_context_tokens=mdep.spec.model.max_context_tokens,
        tokenizer=None
        if tokenizer is None
        else TokenizerBody(uri=tokenizer.uri, digest=tokenizer.digest),
        suspended=mdep.spec.suspend,
    )


def cohort_body(mdep: ModelDeployment, name: str, variant: str, revision: str) -> CohortBody:
    runtime = mdep.spec.runtime.type
    guessing = {v.name for v in mdep.spec.variants if v.speculative is not None}
    return CohortBody(
        name=name,
        variant=variant,
        revision=revision,
        runtime=runtime,
        served_model=SERVERS[runtime].served_model,
        speculative=variant in guessing,
    )


def public_name(mdep: ModelDeployment) -> str:
    return mdep.spec.model.name or mdep.metadata.name


def pinned(mdep: ModelDeployment) -> frozenset[str]:
    """Variants outside the pool that `spec.replicas` sizes. Where all are, there is no pool."""
    names = frozenset(v.name for v in mdep.spec.variants if v.replicas is not None)
    return names if len(names) < len(mdep.spec.variants) else frozenset()


def selector(mdep: ModelDeployment) -> str:
    """Select the pool's pods, as `status.selector` and autoscalers write it."""
    words = [f"{name}={value}" for name, value in _selector(mdep).items()]
    if names := pinned(mdep):
        words.append(f"{labels.VARIANT} notin ({','.join(sorted(names))})")
    return ",".join(words)


def _selector(mdep: ModelDeployment) -> dict[str, str]:
    return {labels.MODEL_UID: mdep.metadata.uid}


def metadata(mdep: ModelDeployment, name: str, cohort: Cohort | None = None) -> dict[str, Any]:
    meta = mdep.metadata
    # Our own keys only: a copied parent label could make Argo CD claim, and prune, the child.
    marks = {
        labels.MANAGED_BY: "headgate",
        labels.PART: labels.MODEL_SERVER,
        labels.MODEL: meta.name,
        labels.MODEL_UID: meta.uid,
    }
    if cohort is not None:
        marks |= {
            labels.VARIANT: cohort.variant.name,
            labels.REVISION: cohort.revision,
            labels.COHORT: cohort.name,
        }
    return {
        "name": name,
        "namespace": meta.namespace,
        "labels": marks,
        "ownerReferences": [
            {
                "apiVersion": labels.API_VERSION,
                "kind": "ModelDeployment",
                "name": meta.name,
                "uid": meta.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
