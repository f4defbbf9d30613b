"""A client that sees all of an answer, its end above all, and what a gateway tells of it."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h11

from headgate_api.snapshot import RouteBody

from .conftest import ALL, KEY, NAME, TENANT, Running, cohort, entry, model


@dataclass(slots=True)
class Client:
    """One connection to the data port, and how the last answer on it ended."""

    running: Running
    stream: bool
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def post(self, **headers: str) -> str:
        """Ask, and describe the answer: status, text and ending in one line."""
        fields = {
            "model": NAME,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": self.stream,
        }
        streams = await asyncio.open_connection("127.0.0.1", self.running.gateway.edge.port)
        http = h11.Connection(h11.CLIENT)
        try:
            whole = await self._ask(http, streams, "POST", json.dumps(fields).encode(), headers)
            ending = self._ending(whole=whole)
            if whole:  # and the connection is good for another one
                http.start_next_cycle()
                assert await self._ask(http, streams, "GET")
        finally:
            streams[1].close()
        return ending

    async def _ask(
        self,
        http: h11.Connection,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        method: str,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
    ) -> bool:
        """Whether the answer came to the end that it said it has."""
        reader, writer = streams
        path = "/v1/chat/completions" if method == "POST" else "/v1/models"
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        fixed = [("host", "x"), ("authorization", f"Bearer {KEY}")]
        fixed.append(("content-length", str(len(body))))
        request = h11.Request(method=method, target=path, headers=[*fixed, *named])
        writer.write(http.send(request) or b"")
        writer.write(http.send(h11.Data(data=body)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        data = b""
        try:
            while True:
                match http.next_event():
                    case h11.NEED_DATA:
                        http.receive_data(await reader.read(65536))
                    case h11.Response(status_code=status, headers=lines) if method == "POST":
                        self.status = status
                        self.headers = {name.decode(): value.decode() for name, value in lines}
                    case h11.Response(status_code=status):
                        assert 200 == status
                    case h11.Data(data=piece):
                        data += piece
                    case h11.EndOfMessage():
                        return True
                    case _:
                        return False
        except (h11.RemoteProtocolError, ConnectionError):
            return False
        finally:
            if method == "POST":
                self.body = data

    def _ending(self, *, whole: bool) -> str:
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            told = json.loads(self.body)
            if "error" in told:
                return f"{self.status} {told['error']['code']}"
            return f"{self.status} {told['choices'][0]['message']['content']}"
        events = [e.removeprefix(b"data: ") for e in self.body.split(b"\n\n") if e[:5] == b"data:"]
        text, ending = "", "" if whole else "cut"
        for number, event in enumerate(events, 1):
            last = number == len(events)
            if event == b"[DONE]":
                assert last
                ending = "[DONE]"
                continue
            told = json.loads(event)
            if "error" in told:
                assert last
                ending = told["error"]["code"]
            elif told["choices"]:
                text += told["choices"][0]["delta"].get("content") or ""
        return " ".join(filter(None, [str(self.status), text, ending]))


# The gateway's side


def relaxed(**more: Any) -> RouteBody:
    """Rules under which nothing times out here."""
    return RouteBody(models=(NAME,), routes=(ALL,), **more)


def serving(runtime: str, rules: RouteBody) -> tuple[Any, ...]:
    """The snapshot: a model of this runtime behind a policy."""
    served = model(cohort(runtime=runtime))
    return served, TENANT, entry("RoutingPolicy", "front", rules)


def tries(running: Running) -> tuple[str, ...]:
    """How all attempts ended, by the gateway's counter."""
    running.gateway.metrics.settle()
    counted = running.gateway.metrics.attempts.items()
    return tuple(sorted(labels[-1] for labels, count in counted for _ in range(int(count.value))))


def told(running: Running) -> tuple[int, int]:
    """What the operator is told of: answered and failed."""
    cohorts = json.loads(running.gateway.feedback.body())["cohorts"]
    return sum(c["answered"] for c in cohorts), sum(c["failed"] for c in cohorts)


def at_rest(running: Running) -> bool:
    """Nothing is in work any more, and all that was is told about."""
    pods, inference = running.gateway.pods._by_name.values(), running.gateway.inference
    if inference.calls or inference.teller._waiting:
        return False
    return not any(each.in_flight for each in pods)


def has_spoken(running: Running) -> bool:
    """Some text is on its way to a client."""
    requests = running.gateway.inference.requests.values()
    return any(request.timeline.first_text for request in requests)


def in_work(running: Running) -> list[bool]:
    """Of each attempt that runs: whether a byte of its answer has come."""
    running_now = [
        attempt for call in running.gateway.inference.calls for attempt in call.tries.running
    ]
    return [bool(a._connection and a._connection._touched) for a in running_now]
