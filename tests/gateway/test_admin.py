"""The admin port: open for probes and metrics, closed for the rest."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from structlog.testing import capture_logs

from headgate_api.errors import Unavailable
from headgate_gateway.access import KubernetesAccess
from headgate_gateway.admin import Access, Admin, admin_port
from headgate_gateway.feedback import MOST, Feedback

from .conftest import Running
from .test_calls import ask
from .upstream import saying

COHORT = 'model="llama",namespace="chat",variant="bf16"'
Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def admin(
    running: Running,
    *,
    unready: str = "",
    access: Access = "allowed",
    requests: Callable[[], bytes] | None = None,
) -> AsyncIterator[httpx2.AsyncClient]:
    """Speak to an admin port of the gateway's."""

    async def authorize(token: str, path: str) -> Access:
        if token == "storm":
            raise Unavailable("no API server")
        return access

    gateway = running.gateway
    answers = Admin(
        snapshots=gateway.snapshots,
        feedback=gateway.feedback,
        metrics=gateway.metrics.exposition,
        requests=requests or gateway.requests_in_flight,
        explain=gateway.explain,
        unready=lambda: unready,
        authorize=authorize,
    )
    edge = admin_port(answers)
    await edge.listen("127.0.0.1", 0)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{edge.port}") as http:
        yield http
    edge.close_listener()
    await edge.emptied()


async def test_readiness_says_why_not(start: Start) -> None:
    running = await start()
    async with admin(running, unready="draining") as http:
        answer = await http.get("/readyz")
        assert (503, "draining") == (answer.status_code, answer.text)
        assert 200 == (await http.get("/healthz")).status_code
    async with admin(running) as http:
        assert 200 == (await http.get("/readyz")).status_code


async def test_metrics_count_answers_tokens_and_stages(start: Start) -> None:
    running = await start(saying("Good", " day"))
    await ask(running)
    await ask(running, model="unknown")
    async with admin(running) as http:
        told = (await http.get("/metrics")).text

    for line in (
        'headgate_gateway_requests_total{code="",status="200"} 1.0',
        'headgate_gateway_requests_total{code="model_not_found",status="404"} 1.0',
        'headgate_gateway_refusals_total{code="model_not_found",stage="routing"} 1.0',
        f'headgate_gateway_tokens_total{{direction="output",{COHORT}}} 2.0',
        'headgate_gateway_stage_duration_seconds_count{stage="identity"} 2.0',
        "headgate_gateway_bugs_total 0.0",
        "headgate_gateway_snapshot_sequence 1.0",
        "headgate_gateway_pods_ready 1.0",
    ):
        assert line in told
    assert "acme" not in told


@pytest.mark.parametrize(
    "path", ["/snapshot", "/feedback", "/debug/requests", "/debug/requests/test-1"]
)
@pytest.mark.parametrize(
    ("authorization", "access", "status"),
    [
        ("", "allowed", 401),
        ("Basic x", "allowed", 401),
        ("Bearer x", "unknown", 401),
        ("Bearer x", "forbidden", 403),
        ("Bearer storm", "allowed", 503),
        ("Bearer x", "allowed", 200),
    ],
)
async def test_reports_are_for_accounts_that_may(
    start: Start, path: str, authorization: str, access: Access, status: int
) -> None:
    running = await start(saying("Hi"))
    await ask(running)
    async with admin(running, access=access) as http:
        answer = await http.get(path, headers={"authorization": authorization})
    assert status == answer.status_code
    assert "API server" not in answer.text


async def test_the_api_servers_proxy_may_bring_the_token_in_a_header_of_its_own(
    start: Start,
) -> None:
    running = await start()
    async with admin(running) as http:
        answer = await http.get("/snapshot", headers={"x-headgate-token": "x"})
        assert 200 == answer.status_code
        assert 401 == (await http.get("/snapshot", headers={"x-headgate-token": ""})).status_code


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/snapshot", "/debug/requests/test-1"])
async def test_what_is_not_asked_with_get_or_head_is_refused(start: Start, path: str) -> None:
    async with admin(await start()) as http:
        for method in ("POST", "DELETE", "OPTIONS"):
            answer = await http.request(method, path, content=b"{}")
            assert (405, "GET, HEAD") == (answer.status_code, answer.headers["allow"])


@pytest.mark.parametrize("path", ["/", "/healthz/", "/debug", "/snapshot/x", "/v1/models"])
async def test_there_is_nothing_elsewhere(start: Start, path: str) -> None:
    async with admin(await start()) as http:
        answer = await http.get(path)
    assert (404, "Not Found") == (answer.status_code, answer.text)


async def test_answers_say_what_they_are_and_whether_they_may_be_kept(start: Start) -> None:
    text, kept = "text/plain; charset=utf-8", "no-store"
    running = await start()
    async with admin(running) as http:
        for path, kind, control in (
            ("/healthz", text, None),
            ("/readyz", text, kept),
            ("/metrics", CONTENT_TYPE_LATEST, None),
            ("/snapshot", "application/json", kept),
            ("/feedback", "application/json", kept),
            ("/debug/requests", "application/json", kept),
            ("/debug/requests/x", text, kept),
        ):
            headers = {"authorization": "Bearer x"}
            answer = await http.get(f"{path}?of=anything", headers=headers)
            told = answer.headers
            assert (kind, control) == (told["content-type"], told.get("cache-control"))
            head = await http.head(path, headers=headers)
            assert (answer.status_code, b"") == (head.status_code, head.content)
            for name in ("content-type", "cache-control"):
                assert told.get(name) == head.headers.get(name)


async def test_a_bug_is_told_in_the_log_alone(start: Start) -> None:
    def broken() -> bytes:
        raise ValueError("in here")

    running = await start()
    with capture_logs() as logged:
        async with admin(running, requests=broken) as http:
            answer = await http.get("/debug/requests", headers={"authorization": "Bearer x"})
            assert 200 == (await http.get("/healthz")).status_code
    assert (500, "Internal Server Error") == (answer.status_code, answer.text)
    assert [("bug", "/debug/requests")] == [(line["event"], line["path"]) for line in logged]


async def test_what_is_asked_here_counts_as_no_request_of_the_gateways(start: Start) -> None:
    running = await start()
    async with admin(running) as http:
        for path in ("/healthz", "/nowhere", "/snapshot"):
            await http.get(path)
        told = (await http.get("/metrics")).text
    assert "headgate_gateway_connections 0.0" in told
    assert "headgate_gateway_requests_total{" not in told


async def test_reports_tell_version_and_counters(start: Start) -> None:
    running = await start(saying("Good", " day"))
    await ask(running)
    async with admin(running) as http:
        headers = {"authorization": "Bearer x"}
        snapshot = json.loads((await http.get("/snapshot", headers=headers)).text)
        feedback = json.loads((await http.get("/feedback", headers=headers)).text)

    assert (1, 1, 1) == (snapshot["schema"], snapshot["epoch"], snapshot["sequence"])
    assert running.gateway.process == feedback["process"]
    cohort = feedback["cohorts"][0]
    assert ("chat", "llama", 1, 0, 2) == (
        cohort["namespace"],
        cohort["model"],
        cohort["answered"],
        cohort["failed"],
        cohort["output_tokens"],
    )
    assert 1 == sum(cohort["first_token"])


def test_counters_of_cohorts_that_are_long_gone_make_room() -> None:
    feedback = Feedback("p")
    lives = feedback.of("chat", "llama", "lives")
    for number in range(2 * MOST):
        feedback.of("chat", "llama", f"old-{number}")
        assert lives is feedback.of("chat", "llama", "lives")

    assert MOST == len(json.loads(feedback.body())["cohorts"])


class Reviews:
    """Answers reviews as an API server would, and counts them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def create(self, resource: Any, namespace: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if resource.kind == "TokenReview":
            if body["spec"]["token"] == "bad":
                return {"status": {"authenticated": False}}
            user = {"username": "op", "groups": ["g"]}
            # What no authenticator has looked for comes back without audiences.
            known = body["spec"]["audiences"] if body["spec"]["token"] == "good" else []
            return {"status": {"authenticated": True, "audiences": known, "user": user}}
        return {"status": {"allowed": body["spec"]["nonResourceAttributes"]["path"] == "/snapshot"}}


async def test_access_is_asked_of_the_api_server_and_remembered_for_a_minute() -> None:
    reviews, now = Reviews(), 0.0
    access = KubernetesAccess(reviews, lambda: now)  # type: ignore[arg-type]

    assert "allowed" == await access("good", "/snapshot")
    assert "forbidden" == await access("good", "/feedback")
    assert "unknown" == await access("bad", "/snapshot")
    assert "unknown" == await access("for anybody", "/snapshot")
    assert ["headgate.dev/gateway"] == reviews.asked[0]["spec"]["audiences"]
    spec = reviews.asked[1]["spec"]
    assert ("op", ["g"], "get") == (
        spec["user"],
        spec["groups"],
        spec["nonResourceAttributes"]["verb"],
    )
    count = len(reviews.asked)
    now = 59.0
    assert "allowed" == await access("good", "/snapshot")
    assert count == len(reviews.asked)
    now = 61.0
    assert "allowed" == await access("good", "/snapshot")
    assert count + 2 == len(reviews.asked)
