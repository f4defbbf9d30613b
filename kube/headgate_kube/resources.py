"""The kinds that the programs read or write, and where the API server has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from headgate_api.labels import API_VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind, as its URL and its manifests name it."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Build the path of one object, or of a collection where `name` is empty.

        >>> PODS.path("chat", "llama-0", "status")
        '/api/v1/namespaces/chat/pods/llama-0/status'
        >>> DEPLOYMENTS.path()
        '/apis/apps/v1/deployments'
        """
        root = "api" if "/" not in self.api_version else "apis"
        parts = [root, *self.api_version.split("/")]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


CONFIG_MAPS: Final = Resource("v1", "configmaps", "ConfigMap")
EVENTS: Final = Resource("v1", "events", "Event")
NAMESPACES: Final = Resource("v1", "namespaces", "Namespace", namespaced=False)
NODES: Final = Resource("v1", "nodes", "Node", namespaced=False)
PODS: Final = Resource("v1", "pods", "Pod")
SECRETS: Final = Resource("v1", "secrets", "Secret")
SERVICE_ACCOUNTS: Final = Resource("v1", "serviceaccounts", "ServiceAccount")
SERVICES: Final = Resource("v1", "services", "Service")
CONTROLLER_REVISIONS: Final = Resource("apps/v1", "controllerrevisions", "ControllerRevision")
DEPLOYMENTS: Final = Resource("apps/v1", "deployments", "Deployment")
LEASES: Final = Resource("coordination.k8s.io/v1", "leases", "Lease")
NETWORK_POLICIES: Final = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
PDBS: Final = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
TOKEN_REVIEWS: Final = Resource(
    "authentication.k8s.io/v1", "tokenreviews", "TokenReview", namespaced=False
)
SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
MODEL_DEPLOYMENTS: Final = Resource(API_VERSION, "modeldeployments", "ModelDeployment")
ROUTING_POLICIES: Final = Resource(API_VERSION, "routingpolicies", "RoutingPolicy")
SAFETY_POLICIES: Final = Resource(API_VERSION, "safetypolicies", "SafetyPolicy")
TENANT_QUOTAS: Final = Resource(API_VERSION, "tenantquotas", "TenantQuota")

BY_KIND: Final[Mapping[str, Resource]] = MappingProxyType(
    {
        resource.kind: resource
        for resource in (
            CONFIG_MAPS,
            CONTROLLER_REVISIONS,
            DEPLOYMENTS,
            EVENTS,
            LEASES,
            MODEL_DEPLOYMENTS,
            NAMESPACES,
            NETWORK_POLICIES,
            NODES,
            PDBS,
            PODS,
            ROUTING_POLICIES,
            SAFETY_POLICIES,
            SECRETS,
            SERVICES,
            SUBJECT_ACCESS_REVIEWS,
            TENANT_QUOTAS,
            TOKEN_REVIEWS,
        )
    }
)
