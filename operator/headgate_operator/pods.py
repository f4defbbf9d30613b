"""What a pod's status says, in one word each."""

from headgate_controllers.contract import Manifest


def is_ready(pod: Manifest) -> bool:
    """Ready, with an address, and not on its way out."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp") or not status.get("podIP"):
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))


def restarts(pod: Manifest) -> int:
    """How often containers of the pod were started again."""
    containers = pod.get("status", {}).get("containerStatuses", ())
    return sum(container.get("restartCount", 0) for container in containers)
