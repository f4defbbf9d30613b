"""`headgate explain ID`: gateways asked, one at its admin port, or all of a cluster."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from headgate_api.errors import Forbidden, HeadgateError, NotFound, TerminalError, Unavailable
from headgate_cli import asking
from headgate_cli.main import main
from headgate_cluster.processes import free_ports
from headgate_kube.client import Client

from .test_serve import HELLO, POLICY, ROUTE, model_server, serving

ELSEWHERE = NotFound("Request b-1 is not of this gateway: its ids begin a-.")
GONE = NotFound("Request b-1 is not known any more, or never was: of this gateway ...")


# One gateway


async def test_a_local_gateway_explains_what_it_has_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(f"{POLICY}---{ROUTE}")
    async with (
        model_server("Good", " morning.") as url,
        serving(tmp_path, "--upstream", f"llama={url}") as served,
        served.client() as ai,
    ):
        create = ai.chat.completions.with_raw_response.create
        answer = await create(model="assistant", messages=HELLO, user="me")
        name = answer.headers["x-request-id"]

        async def explain(*options: str) -> tuple[int, str, str]:
            at = ("--gateway", served.admin)
            code = await asyncio.to_thread(main, ["explain", *options, *at])
            return code, *capsys.readouterr()

        code, out, _ = await explain(name)
        assert 0 == code
        assert f'Request {name}: A chat for the model "assistant", asked by tenant acme' in out
        assert "Policy default/assistant claims the name (Single: " in out
        assert "  1. route all, model llama (the only target that was ready): its answer " in out

        code, out, _ = await explain(name, "-o", "json")
        assert ("llama", "ok") == (json.loads(out)["model"], json.loads(out)["outcome"]["code"])

        code, out, err = await explain("another-1")
        assert (1, "") == (code, out)
        assert "Request another-1 is not of this gateway: its ids begin " in err

        code, out, err = await explain("no/id?at=all")
        assert (1, "") == (code, out)
        assert "Request no/id?at=all is not of this gateway: its ids begin " in err

        assert 1 == await asyncio.to_thread(main, ["explain", name, "--gateway", served.url])
        said = f"{served.url}: 404 Not Found; is it the admin port of a gateway?"
        assert said in capsys.readouterr().err

        metrics = f"{served.admin}/metrics?of="
        assert 1 == await asyncio.to_thread(
            main, ["explain", name, "-o", "json", "--gateway", metrics]
        )
        assert "answers, but not with an explanation; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:9090", "--gateway 127.0.0.1:9090: write http://HOST:PORT, of the admin port"),
        ("http://[::1", "--gateway http://[::1: write http://HOST:PORT, of the admin port"),
        ("http://127.0.0.1:{0}", "http://127.0.0.1:{0} gives no answer: [Errno 111] Connection "),
    ],
)
def test_a_url_that_leads_nowhere_is_told(
    url: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_ports(1)[0]

    assert 1 == main(["explain", "p-1", "--gateway", url.format(port)])
    assert said.format(port) in capsys.readouterr().err


# All of a cluster


def gateway_pod(name: str, port: int = 9090) -> dict[str, Any]:
    ports = [{"name": "data", "containerPort": 8080}, {"name": "admin", "containerPort": port}]
    return {"metadata": {"name": name}, "spec": {"containers": [{"ports": ports}]}}


class ApiServer:
    """Lists pods, makes tokens, and passes on to the pods of gateways."""

    def __init__(self, *pods: Mapping[str, Any], **answers: web.Response) -> None:
        self.pods = pods
        self.answers = answers
        self.asked: list[tuple[str, str | None, str | None]] = []

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api/v1/namespaces/headgate/")
        if path == "pods":
            assert "headgate.dev/part=gateway" == request.query["labelSelector"]
            listed = {"items": self.pods, "metadata": {"resourceVersion": "1"}}
            return web.json_response(listed)
        if path == "serviceaccounts/headgate-explain/token":
            spec = (await request.json())["spec"]
            assert ["headgate.dev/gateway"] == spec["audiences"]
            return web.json_response({"status": {"token": "made"}})
        if path.startswith("serviceaccounts/"):
            return web.json_response({"message": "there is none", "code": 404}, status=404)
        headers = request.headers
        self.asked.append((path, headers.get("x-headgate-token"), headers.get("accept")))
        return self.answers[path.split("/")[1].partition(":")[0].replace("-", "_")]


@asynccontextmanager
async def api_server(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ApiServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = Configuration()
    settings.host = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def connect(**_: object) -> Client:
        return Client(settings, user_agent="tests")

    monkeypatch.setattr(Client, "connect", connect)
    try:
        yield server
    finally:
        await runner.cleanup()


async def test_all_gateways_are_asked_and_the_one_that_knows_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ApiServer(
        gateway_pod("gateway-0"),
        gateway_pod("gateway-1", 9191),
        gateway_0=web.Response(status=404, text=str(ELSEWHERE)),
        gateway_1=web.Response(text="Request b-1: ..."),
    )
    async with api_server(server, monkeypatch):
        said = await asking.cluster("headgate", "headgate-explain", "b-1", words=True)

    assert "Request b-1: ..." == said
    assert [
        ("pods/gateway-0:9090/proxy/debug/requests/b-1", "made", "text/plain"),
        ("pods/gateway-1:9191/proxy/debug/requests/b-1", "made", "text/plain"),
    ] == sorted(server.asked)


@pytest.mark.parametrize(
    ("pods", "account", "said"),
    [
        ((), "headgate-explain", "namespace headgate has no gateways; -n names another one"),
        (
            (gateway_pod("gateway-0"),),
            "other",
            "namespace headgate has no ServiceAccount other that may read explanations; the",
        ),
    ],
)
async def test_what_is_missing_in_the_cluster_is_told(
    monkeypatch: pytest.MonkeyPatch,
    pods: tuple[Mapping[str, Any], ...],
    account: str,
    said: str,
) -> None:
    async with api_server(ApiServer(*pods), monkeypatch):
        with pytest.raises(TerminalError, match=said):
            await asking.cluster("headgate", account, "b-1", words=True)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            {"a": ELSEWHERE, "b": ELSEWHERE},
            "none of the gateways a, b has made request b-1; one that was restarted has forgotten",
        ),
        ({"a": ELSEWHERE, "b": GONE}, "^b: Request b-1 is not known any more, or never was"),
        (
            {"a": ELSEWHERE, "b": Unavailable("error trying to reach service")},
            "not all gateways could be asked: b: error trying to reach service$",
        ),
        (
            {"a": Forbidden("this account may not get this path")},
            "could be asked: a: this account may not get this path; docs/explain.md says which",
        ),
    ],
)
def test_why_nobody_can_explain_it_is_told(answers: dict[str, HeadgateError], said: str) -> None:
    with pytest.raises(TerminalError, match=said):
        asking.chosen("b-1", answers)


def test_a_bug_is_not_taken_for_an_answer() -> None:
    with pytest.raises(ZeroDivisionError):
        asking.chosen("b-1", {"a": ZeroDivisionError()})
