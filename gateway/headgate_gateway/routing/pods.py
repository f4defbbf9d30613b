"""Model server pods: which may be asked, how busy they are, and their idle connections.

Pods are watched directly and not through a Service: a pod that is going to stop leaves the pool
when its deletion is announced, before it stops, and its connections are let go with it.
"""

from collections.abc import Collection, Mapping, Set as AbstractSet
from typing import Any, Final, NamedTuple, final

from headgate_api.labels import COHORT, HTTP_PORT, MODEL_UID
from headgate_api.snapshot import OutlierBody
from headgate_gateway.calls.upstream import Upstream
from headgate_gateway.routing.resting import Resting

LONGEST_ASIDE: Final = 30.0  # s
LONGEST_EJECTION: Final = 300.0  # s
ASIDE: Final = 1 << 30
"""Requests in work that weigh as much as a failure lately does."""
EJECTED: Final = 1 << 31
"""As many, for an ejection."""


class Pool(NamedTuple):
    """Whose pods: a ModelDeployment by namespace and uid. Labels alone could be forged."""

    namespace: str
    uid: str


@final
class Pod:
    """One pod, as this gateway sees it."""

    def __init__(
        self, *, name: str, uid: str, host: str, port: int, cohort: str, pool: Pool
    ) -> None:
        self.name = name
        self.uid = uid
        self.host = host
        self.port = port
        self.cohort = cohort
        self.pool = pool
        self.in_flight = 0
        self.serving = True
        self._resting = Resting()
        self._failures = 0  # in a row
        self._ejections = 0  # in a row
        self.aside_until = 0.0
        """Until then it is asked only where there is no other."""
        self.ejected_until = 0.0
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def take(self) -> Upstream | None:
        """Take a connection that rests, if there is one."""
        return self._resting.take()

    def give_back(self, connection: Upstream) -> None:
        """Keep a connection for the next request, or close it where there will be none."""
        if self.serving and connection.usable:
            self._resting.put(connection)
        else:
            connection.close()

    def retire(self) -> None:
        """No new requests. Triton waits for idle connections before it stops: close them now."""
        self.serving = False
        self._resting.close()

    def answered(self, now: float) -> None:
        """Forget its failures, but for an ejection: what ends now began before it."""
        self._failures, self.aside_until = 0, 0.0
        if now >= self.ejected_until:
            self._ejections = 0

    def failed(self, now: float) -> int:
        """Set the pod aside for a while, longer each time: failing fast must not attract load.

        Returns:
            How often it failed in a row.
        """
        self._failures += 1
        self.aside_until = now + min(LONGEST_ASIDE, 2.0 ** min(self._failures - 1, 16))
        return self._failures

    def eject(self, now: float, base: float) -> None:
        """Give it no requests for `base` s, doubled with each ejection in a row."""
        seconds = min(base * 2.0 ** min(self._ejections, 16), max(base, LONGEST_EJECTION))
        self._ejections += 1
        self._failures = 0
        self.ejected_until = now + seconds


@final
class Pods:
    """All pods that serve, by model and cohort."""

    def __init__(self, port: int = HTTP_PORT) -> None:
        self._port = port
        self._by_name: dict[tuple[str, str], Pod] = {}
        self._pools: dict[Pool, dict[str, list[Pod]]] = {}
        self._turn = 0

    def put(self, manifest: Mapping[str, Any]) -> None:
        """Take over what the API server says about a pod."""
        meta = manifest["metadata"]
        self.place((meta["namespace"], meta["name"]), _pod(manifest, self._port))

    def place(self, key: tuple[str, str], after: Pod | None) -> None:
        """Have a pod, by namespace and name, as it is now. None: it may not be asked."""
        before = self._by_name.get(key)
        if before is not None and after is not None and _same(before, after):
            return
        if before is not None:
            self._remove(key, before)
        if after is not None:
            self._by_name[key] = after
            self._pools.setdefault(after.pool, {}).setdefault(after.cohort, []).append(after)

    def gone(self, namespace: str, name: str) -> None:
        self.place((namespace, name), None)

    def ready(self, pool: Pool, cohorts: Collection[str]) -> list[Pod]:
        """List the pods of these cohorts that may be asked."""
        found = self._pools.get(pool)
        if found is None:
            return []
        if len(cohorts) == 1:  # as nearly always: no new list for each request
            (only,) = cohorts
            return found.get(only, [])
        return [pod for cohort in cohorts for pod in found.get(cohort, [])]

    def pick(
        self, pods: list[Pod], now: float, *, avoid: AbstractSet[Pod] = frozenset()
    ) -> Pod | None:
        """Choose the least busy of `pods`; of equals, each in its turn.

        Pods that are ejected or failed lately are chosen only when there is no other, so that a
        model whose pods all fail is still tried. Those in `avoid` are never chosen.
        """
        self._turn += 1
        best: Pod | None = None
        least = 0
        count = len(pods)
        for i in range(self._turn, self._turn + count):
            pod = pods[i % count]
            if avoid and pod in avoid:
                continue
            rank = pod.in_flight
            if now < pod.aside_until:
                rank += ASIDE
            if now < pod.ejected_until:
                rank += EJECTED
            if best is None or rank < least:
                best, least = pod, rank
        return best

    def failed(self, pod: Pod, now: float, policy: OutlierBody) -> bool:
        """Note that a pod failed a request, and say whether it is ejected for that.

        Never more of a model's pods at once than its policy allows: when all fail, it is not the
        pods that are odd.
        """
        if pod.failed(now) < policy.consecutive_failures or now < pod.ejected_until:
            return False  # or what was in work there when it failed would eject it again and again
        peers = [p for found in self._pools.get(pod.pool, {}).values() for p in found]
        ejected = sum(now < peer.ejected_until for peer in peers)
        if (ejected + 1) * 100 > policy.max_ejection_percent * len(peers):
            return False
        pod.eject(now, policy.base_ejection)
        return True

    def counts(self) -> dict[Pool, int]:
        """Count the pods that serve, by model."""
        return {pool: sum(map(len, found.values())) for pool, found in self._pools.items()}

    def _remove(self, key: tuple[str, str], pod: Pod) -> None:
        del self._by_name[key]
        cohorts = self._pools[pod.pool]
        cohorts[pod.cohort].remove(pod)
        if not cohorts[pod.cohort]:
            del cohorts[pod.cohort]
        if not cohorts:
            del self._pools[pod.pool]
        pod.retire()


def _pod(manifest: Mapping[str, Any], port: int) -> Pod | None:
    """Read a pod that may be asked, or None."""
    meta, status = manifest["metadata"], manifest.get("status", {})
    labels = meta.get("labels", {})
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions", ())
    )
    host = status.get("podIP")
    if not ready or not host or "deletionTimestamp" in meta:
        return None
    if COHORT not in labels or MODEL_UID not in labels or not _made_for(labels[COHORT], meta):
        return None
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        host=host,
        port=port,
        cohort=labels[COHORT],
        pool=Pool(meta["namespace"], labels[MODEL_UID]),
    )


def _made_for(cohort: str, meta: Mapping[str, Any]) -> bool:
    """Tell whether the cohort's Deployment made the pod: a label alone is quickly changed.

    A pod that is relabelled keeps no owner, or that of another cohort. Whoever may create pods in
    the namespace can still forge one: that is a right to read its prompts.
    """
    owners = meta.get("ownerReferences", ())
    controller = next((owner for owner in owners if owner.get("controller")), None)
    return (
        controller is not None
        and controller["kind"] == "ReplicaSet"
        and controller["name"].rpartition("-")[0] == cohort
    )


def _same(one: Pod, other: Pod) -> bool:
    names = ("uid", "address", "cohort", "pool")
    return all(getattr(one, name) == getattr(other, name) for name in names)
