"""`headgate serve --manifests`: a gateway without a cluster, judged by the OpenAI SDK."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from headgate_api.errors import TerminalError
from headgate_api.snapshot import Identity, RouteBody, RouteRule, Target
from headgate_cli.local import Upstream, summary, upstream
from headgate_cluster.processes import free_ports
from headgate_policy.snapshot import make_entry

from ..gateway.upstream import Upstream as ModelServer, saying  # noqa: TID252 - theirs will do

HELLO: Any = [{"role": "user", "content": "Hello"}]
KEY = "hg_a-key-of-the-tenant-acme-0123456789"
POLICY = f"""
apiVersion: headgate.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: llama}}
spec:
  variants:
    - name: bf16
      source: {{uri: "hf://org/llama@main"}}
---
apiVersion: headgate.dev/v1alpha1
kind: TenantQuota
metadata: {{name: acme}}
spec:
  credentials:
    - name: keys
      apiKeys: {{secretRef: {{name: keys}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{first: {KEY}}}
"""
ROUTE = """
apiVersion: headgate.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: assistant}
spec:
  models: [assistant]
  routes:
    - name: all
      targets: [{modelRef: {name: llama}}]
"""


@dataclass(slots=True)
class Served:
    """A gateway as a process of its own."""

    process: asyncio.subprocess.Process
    url: str
    stderr: asyncio.StreamReader
    stdout: asyncio.StreamReader
    admin: str = ""
    """URL of the admin port."""

    def client(self, key: str = KEY) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0)

    async def say(self, model: str) -> str:
        async with self.client() as ai:
            answer = await ai.chat.completions.create(model=model, messages=HELLO)
        return answer.choices[0].message.content or ""


async def line_with(stream: asyncio.StreamReader, words: str) -> str:
    """Read until a line has these words."""
    while line := (await stream.readline()).decode():
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}")


async def started(*arguments: object) -> asyncio.subprocess.Process:
    command = ("-m", "headgate_cli.main", "serve", *map(str, arguments))
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=pipe, stderr=pipe, env={**os.environ}
    )


@asynccontextmanager
async def serving(folder: Path, *more: object) -> AsyncIterator[Served]:
    port, admin_port = free_ports(2)
    ports = ("--port", port, "--admin-port", admin_port)
    process = await started("--manifests", folder, *ports, *more)
    assert process.stdout is not None
    assert process.stderr is not None
    admin = f"http://127.0.0.1:{admin_port}"
    served = Served(process, f"http://127.0.0.1:{port}/v1", process.stderr, process.stdout, admin)
    try:
        await line_with(process.stdout, '"serving"')
        yield served
        process.terminate()
        assert 0 == await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def model_server(*words: str) -> AsyncIterator[str]:
    server = ModelServer(saying(*words))
    port = await server.start("127.0.0.1")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


async def test_a_folder_and_a_model_server_are_all_it_takes(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    async with (
        model_server("Good", " morning.") as url,
        serving(tmp_path, "--upstream", f"llama={url}") as served,
    ):
        assert "model   llama -> 127.0.0.1:" in await line_with(served.stderr, "llama")
        assert "tenant  acme: keys first" in await line_with(served.stderr, "tenant")
        assert "Good morning." == await served.say("llama")
        async with served.client() as ai:
            stream = await ai.chat.completions.create(model="llama", messages=HELLO, stream=True)
            text = [c.choices[0].delta.content or "" async for c in stream if c.choices]
        assert "Good morning." == "".join(text)
        async with served.client("hg_the-key-of-nobody-at-all-0123456789") as ai:
            with pytest.raises(openai.AuthenticationError):
                await ai.models.list()


TWINS = (
    POLICY.replace(
        "- name: bf16",
        """- name: bf16-eagle3
      replicas: 1
      source: {uri: "hf://org/llama@main"}
      speculative: {type: eagle3, draft: {uri: "pvc://weights/llama-eagle3"}}
    - name: bf16
      replicas: 1""",
    )
    + "---"
    + ROUTE
    + "      speculative: {maxTemperature: 1}\n"
)


async def test_a_route_chooses_between_a_variant_that_guesses_and_its_plain_twin(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(TWINS)
    async with (
        model_server("guessed") as guessing,
        model_server("plain") as plain,
        serving(
            tmp_path,
            *("--upstream", f"llama/bf16-eagle3={guessing}"),
            *("--upstream", f"llama/bf16={plain}"),
        ) as served,
    ):
        said = {await served.say("assistant") for _ in range(16)}  # all but 5 % are guessed for
        assert "guessed" in said
        async with served.client() as ai:
            made = await ai.chat.completions.create(
                model="assistant", messages=HELLO, temperature=1.5
            )
        assert "plain" == made.choices[0].message.content
        policy.write_text(TWINS.replace("maxTemperature: 1", "mode: Never"))
        await line_with(served.stderr, "tenant")
        await line_with(served.stderr, "tenant")  # of the lines about what is in force now
        assert "plain" == await served.say("assistant")


async def test_a_change_comes_into_force_and_a_bad_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    async with (
        model_server("Hi") as url,
        serving(tmp_path, "--upstream", f"llama={url}") as served,
    ):
        with pytest.raises(openai.NotFoundError):
            await served.say("assistant")

        (tmp_path / "route.yaml").write_text(ROUTE)
        await line_with(served.stderr, "route   assistant -> llama (1)")
        await line_with(served.stderr, "tenant")  # the last of its lines
        assert "Hi" == await served.say("assistant")

        (tmp_path / "route.yaml").write_text(ROUTE.replace("name: llama", "name: nobody"))
        said = await line_with(served.stdout, "the last good manifests stay in force")
        assert 'there is no ModelDeployment \\"nobody\\"' in said
        assert "Hi" == await served.say("assistant")

        (tmp_path / "route.yaml").unlink()
        await line_with(served.stderr, "tenant")
        with pytest.raises(openai.NotFoundError):
            await served.say("assistant")


@pytest.mark.parametrize(
    ("policy", "arguments", "said"),
    [
        (
            POLICY,
            (),
            "ModelDeployment/llama: it has no model server; add --upstream",
        ),
        (
            POLICY,
            ("llama=http://h", "x=http://h"),
            "--upstream x: the manifests have no such model",
        ),
        (
            POLICY,
            ("llama/fp8=http://h",),
            "--upstream llama/fp8: the manifests have no such model or variant; there are: llama/",
        ),
        (POLICY.partition("---\napiVersion: v1")[0], ("llama=http://h",), 'there is no Secret "k'),
        (POLICY.replace("hf:", "s3:"), ("llama=http://h",), "policy.yaml:8: ModelDeployment/llama"),
        (POLICY, ("llama",), "--upstream llama: write MODEL=http://HOST:PORT"),
    ],
)
async def test_what_is_wrong_is_told_and_nothing_is_served(
    tmp_path: Path, policy: str, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "policy.yaml").write_text(policy)
    options = (word for argument in arguments for word in ("--upstream", argument))

    process = await started("--manifests", tmp_path, *options)
    _, stderr = await process.communicate()

    assert 1 == process.returncode
    assert said in stderr.decode()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 1, "without one, give --manifests"),
        (("--upstream", "llama=http://h"), 1, "--upstream goes with --manifests"),
        (("--host", "localhost"), 2, "'localhost' is no IP address, such as 127.0.0.1"),
    ],
)
async def test_options_that_do_not_go_together_say_what_does(
    options: tuple[str, ...], code: int, said: str
) -> None:
    process = await started(*options)
    _, stderr = await process.communicate()

    assert code == process.returncode
    assert said in stderr.decode()


@pytest.mark.parametrize(
    ("option", "other", "said"),
    [
        ("--port", "--admin-port", "the port {} cannot be used: "),
        ("--admin-port", "--port", "the admin port {} cannot be used: "),
    ],
)
async def test_a_port_that_is_taken_is_named(
    tmp_path: Path, option: str, other: str, said: str
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (free,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--upstream", "llama=http://h", option, port, other, free)
        process = await started("--manifests", tmp_path, *options)
        stdout, stderr = await process.communicate()

    assert 1 == process.returncode
    assert "headgate: " + said.format(port) in stderr.decode()
    assert "Traceback" not in stderr.decode()
    assert b'"serving"' not in stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llama=http://127.0.0.1:8000", Upstream("llama", "", "127.0.0.1", 8000)),
        ("llama/fp8=http://triton", Upstream("llama", "fp8", "triton", 80)),
        ("llama=http://[::1]:8000/", Upstream("llama", "", "::1", 8000)),
    ],
)
def test_an_upstream_is_a_model_or_a_variant_at_a_url(text: str, expected: Upstream) -> None:
    assert expected == upstream(text)


@pytest.mark.parametrize(
    "text",
    [
        *("llama", "=http://h", "llama=h:80", "llama=https://h", "llama=http://h/v1"),
        *("a=http://h:x", "llama/=http://h", "/fp8=http://h"),
    ],
)
def test_what_is_no_upstream_is_refused_with_the_right_shape(text: str) -> None:
    with pytest.raises(TerminalError, match="write MODEL=http://HOST:PORT"):
        upstream(text)


def test_a_folder_without_tenants_says_that_nobody_may_call() -> None:
    assert ["nobody may call: add a TenantQuota, and a Secret with a key"] == list(summary([], []))


def test_of_many_routes_the_first_are_told() -> None:
    routes = tuple(RouteRule(name=f"r{number}", respond="Hi.") for number in range(64))
    body = RouteBody(models=("chat",), routes=routes)
    identity = Identity(kind="RoutingPolicy", namespace="default", name="chat")
    said = [*summary([make_entry(identity, uid="uid", generation=1, body=body)], [])]

    assert said[-1].endswith("; r3: a fixed answer; and 60 more")


def test_routes_are_told_by_name_with_where_they_lead() -> None:
    body = RouteBody(
        models=("assistant", "chat"),
        architecture="Router",
        routes=(
            RouteRule(
                name="tools",
                when="request.hasTools",
                targets=(Target(model="llama", variants=("fp8", "bf16")),),
            ),
            RouteRule(
                name="split",
                targets=(Target(model="llama", weight=4), Target(model="qwen")),
            ),
            RouteRule(name="closed", fallback_only=True, respond="Closed."),
        ),
    )
    identity = Identity(kind="RoutingPolicy", namespace="default", name="assistant")

    said = [*summary([make_entry(identity, uid="uid", generation=1, body=body)], [])]

    assert (
        "route   assistant, chat -> tools: llama/fp8|bf16 (1); "
        "split: llama (4), qwen (1); closed: a fixed answer"
    ) == said[-1]
