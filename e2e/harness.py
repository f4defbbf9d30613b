"""What the demo and the cases use: one installed release on one cluster, and streams through it."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from openai import APIError, AsyncOpenAI, OpenAI

ROOT: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent
NAMESPACE: Final = "headgate"
RELEASE: Final = "headgate"
NODE_PORT: Final = 30080
MODEL: Final = "llama-3-1-8b"
KEY: Final = "headgate-demo-key-for-a-first-try-only"
T = TypeVar("T")


class CommandError(AssertionError):
    """A command ended badly; the message is the command line and what it said."""


def until(check: Callable[[], T | None], seconds: float, what: str) -> T:
    """Wait for the first true answer of `check`.

    Raises:
        AssertionError: there was none within `seconds`; the message says what was waited for and
            what the last answer or error was.
    """
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            if answer := check():
                return answer
            last = answer
        except (AssertionError, KeyError, IndexError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last: {last}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and the commands a user would type at it."""

    kubeconfig: str
    kubectl_binary: str
    address: str  # of the node: NodePorts answer here

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        argv = [self.kubectl_binary, f"--kubeconfig={self.kubeconfig}", "-n", NAMESPACE, *arguments]
        return _run(argv, stdin)

    def helm(self, *arguments: str) -> str:
        argv = [str(BIN / "helm"), f"--kubeconfig={self.kubeconfig}", "-n", NAMESPACE, *arguments]
        return _run(argv)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def all(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        text = self.kubectl("get", kind, "-l", selector, "-o", "json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return items

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods that are not on their way out."""
        pods = self.all("pods", selector)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def apply(self, manifest: dict[str, Any]) -> str:
        return self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))

    def condition(self, kind: str, name: str, type_: str) -> str:
        """One condition as `status reason: message`; empty while it speaks of an old generation."""
        found = self.get(kind, name)
        for condition in found.get("status", {}).get("conditions", ()):
            if condition["type"] == type_:
                if condition["observedGeneration"] < found["metadata"]["generation"]:
                    return ""
                return f"{condition['status']} {condition['reason']}: {condition['message']}"
        return ""

    @property
    def url(self) -> str:
        return f"http://{self.address}:{NODE_PORT}/v1"

    def openai(self, key: str = KEY) -> OpenAI:
        return OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def async_openai(self, key: str = KEY, *, retries: int = 0) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.url, api_key=key, max_retries=retries, timeout=60)


def _run(argv: list[str], stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(argv)}\nended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@dataclass(slots=True)
class Load:
    """Streams that run side by side, one after the other, until they are told to stop."""

    cluster: Cluster
    model: str
    concurrency: int
    prompt: str
    max_tokens: int
    retries: int
    finished: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    async def _one(self, client: AsyncOpenAI, number: int) -> None:
        stream = await client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": f"{self.prompt} ({number})"}],
            max_tokens=self.max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        finish, usage = None, None
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
        if finish not in {"stop", "length"} or usage is None:
            raise AssertionError(f"a stream ended with finish_reason={finish}, usage={usage}")

    async def _worker(self, client: AsyncOpenAI, number: int) -> None:
        while not self._stop.is_set():
            try:
                await self._one(client, number)
                self.finished += 1
            except (APIError, AssertionError) as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1
                await asyncio.sleep(0.1)  # a failing gateway is not hammered

    async def _all(self) -> None:
        async with (
            self.cluster.async_openai(retries=self.retries) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self.concurrency):
                group.create_task(self._worker(client, number))

    def more(self, streams: int, seconds: float = 120) -> None:
        """Wait until so many more streams have finished."""
        goal = self.finished + streams
        until(lambda: self.finished >= goal, seconds, f"{streams} more streams: {self.failures}")


@contextmanager
def load(
    cluster: Cluster,
    *,
    model: str = MODEL,
    concurrency: int = 4,
    max_tokens: int = 60,
    retries: int = 0,
) -> Iterator[Load]:
    """Keep streams running for the body, and let the last ones end before it returns.

    `retries` are the client's own. It makes them for requests that got no answer, never for a
    stream that has begun.
    """
    running = Load(cluster, model, concurrency, "Tell me about rivers.", max_tokens, retries)
    thread = threading.Thread(target=lambda: asyncio.run(running._all()))
    thread.start()
    try:
        running.more(concurrency)
        yield running
    finally:
        running._stop.set()
        thread.join(timeout=90)
