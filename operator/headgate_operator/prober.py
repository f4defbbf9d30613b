"""Asks a model server for one token, once it says that it is ready: Ready means that it answered.

Each pod is probed when it turns ready and again after a container restart. No tenant pays for it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from headgate_api.errors import Unavailable
from headgate_controllers.contract import Key, Manifest
from headgate_operator.metrics import PROBES
from headgate_operator.pods import is_ready, restarts
from headgate_operator.store import Store

log = structlog.get_logger(__name__)

TIMEOUT: Final = 30.0  # s; a busy server answers late, and that is no fault
AT_ONCE: Final = 16


class Probe(Protocol):
    async def __call__(self, pod: Manifest) -> None:
        """Get one token. `Unavailable`: there was none, and the message says why."""
        ...


class Queue(Protocol):
    def add(self, key: Key) -> None: ...
    def retry(self, key: Key, *, not_before: float | None = None) -> None: ...
    def forget(self, key: Key) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    restarts: int
    """Of the pod, when it was asked."""
    why_not: str
    """Empty: it answered."""


@dataclass(slots=True)
class Prober:
    """Probes pods from a queue of its own and remembers what they answered."""

    store: Store
    queue: Queue
    probe: Probe
    wake: Callable[[Manifest], None] = lambda _: None
    _answers: dict[str, Answer] = field(default_factory=dict)  # by uid
    _uids: dict[Key, str] = field(default_factory=dict)

    def answered(self, pod_uid: str) -> str | None:
        answer = self._answers.get(pod_uid)
        return None if answer is None else answer.why_not

    def heard(self, key: Key) -> None:
        """Look at a pod that came, changed or went."""
        if key.kind != "Pod":
            return
        pod = self.store.get(key)
        uid = pod["metadata"]["uid"] if pod else ""
        if self._uids.get(key, uid) != uid:
            self._answers.pop(self._uids.pop(key), None)
        if pod is None:
            self.queue.forget(key)
            return
        self._uids[key] = uid
        if uid in self._answers and self._answers[uid].restarts != restarts(pod):
            del self._answers[uid]
        if uid not in self._answers and is_ready(pod):
            self.queue.add(key)

    async def run(self, key: Key) -> None:
        """Probe the pod once; one that does not answer comes again later."""
        pod = self.store.get(key)
        if pod is None or not is_ready(pod):
            self.queue.forget(key)
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                await self.probe(pod)
        except (Unavailable, TimeoutError) as error:
            why_not = str(error) or f"no token within {TIMEOUT:.0f} s"
            PROBES.labels("failed").inc()
            log.warning("probe failed", pod=f"{key.namespace}/{key.name}", error=why_not)
            self.queue.retry(key, not_before=1.0)
        else:
            why_not = ""
            PROBES.labels("answered").inc()
            self.queue.forget(key)
        self._remember(key, pod, Answer(restarts(pod), why_not))

    def _remember(self, key: Key, pod: Manifest, answer: Answer) -> None:
        uid = pod["metadata"]["uid"]
        if self._uids.get(key) != uid or self._answers.get(uid) == answer:
            return
        self._answers[uid] = answer
        self.wake(pod)
