"""The simulated LLM, alone and in a real Triton server.

The two served models speak two dialects. Most tests run once in each.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import InferInput

from headgate_api.variants import Variant
from headgate_cluster.files import TREE
from headgate_cluster.triton import Triton
from headgate_controllers.modeldeployment.servers import SERVERS
from headgate_controllers.modeldeployment.sources import locate

MODELS = TREE / "images" / "triton-sim" / "models"
PROBE = TREE / "controllers/headgate_controllers/modeldeployment/files/alive.py"

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one runtime names things."""

    model: str
    runtime: str
    folder: str
    names: dict[str, str]
    whole_text: bool  # each streamed response holds the text from the start

    def body(self, prompt: str, **given: Any) -> dict[str, Any]:
        asked = {"max_tokens": 400, "stream": True, "finish_reason": True, "counts": True, **given}
        named = {
            self.names[key]: value
            for key, value in asked.items()
            if key in self.names and value is not None
        }
        # What is no tensor becomes a parameter of the request.
        time = {"request_timeout_ms": given["time"]} if "time" in given else {}
        return {"text_input": prompt, **named, **time}

    def text(self, events: list[Event]) -> str:
        pieces = [event["text_output"] for event in events]
        return pieces[-1] if self.whole_text else "".join(pieces)

    def __str__(self) -> str:
        return self.runtime


LLMAPI = Dialect(
    model="tensorrt_llm",
    runtime="triton-llmapi",
    folder="llmapi",
    names={
        "max_tokens": "sampling_param_max_tokens",
        "seed": "sampling_param_seed",
        "stop_words": "sampling_param_stop",
        "exclude_input": "sampling_param_exclude_input_from_output",
        "perf": "sampling_param_return_perf_metrics",
        "stream": "streaming",
        "finish_reason": "return_finish_reason",
        "stop_reason": "return_stop_reason",
        "id": "id",
        "stop": "stop",
    },
    whole_text=True,
)
ENSEMBLE = Dialect(
    model="ensemble",
    runtime="triton-python",
    folder="python",
    names={
        "max_tokens": "max_tokens",
        "seed": "seed",
        "stop_words": "stop_words",
        "exclude_input": "exclude_input_in_output",
        "perf": "return_perf_metrics",
        "stream": "stream",
        "counts": "return_num_output_tokens",
        "input_counts": "return_num_input_tokens",
        "id": "id",
        "stop": "stop",
    },
    whole_text=False,
)


@pytest.fixture(params=[LLMAPI, ENSEMBLE], ids=str)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Both, one after the other."""
    return request.param


@dataclass(slots=True)
class Served:
    """One model of a running Triton."""

    triton: Triton
    dialect: Dialect
    http: aiohttp.ClientSession = field(repr=False)

    @asynccontextmanager
    async def open(self, prompt: str, **given: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self._url("generate_stream")
        async with self.http.post(url, json=self.dialect.body(prompt, **given)) as response:
            yield response

    async def stream(self, prompt: str, **given: Any) -> tuple[int, list[Event]]:
        async with self.open(prompt, **given) as response:
            return response.status, [event async for event in events_of(response)]

    async def raw(self, body: dict[str, Any]) -> tuple[int, list[Event]]:
        async with self.http.post(self._url("generate_stream"), json=body) as response:
            return response.status, [event async for event in events_of(response)]

    async def say(self, prompt: str, **given: Any) -> str:
        status, events = await self.stream(prompt, **given)
        assert 200 == status, events
        return self.dialect.text(events)

    async def plain(self, prompt: str, **given: Any) -> tuple[int, Event]:
        body = self.dialect.body(prompt, stream=False, **given)
        async with self.http.post(self._url("generate"), json=body) as response:
            return response.status, await response.json(content_type=None)

    async def grpc(self, prompt: str, **given: Any) -> AsyncIterator[Event]:
        """Ask over ModelStreamInfer. To leave the loop is to cancel the request."""
        request = {
            "model_name": self.dialect.model,
            "inputs": [_tensor(*pair) for pair in self.dialect.body(prompt, **given).items()],
            "enable_empty_final_response": True,
        }

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield request

        async with triton_grpc.InferenceServerClient(f"127.0.0.1:{self.triton.grpc}") as client:
            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                said = result.as_numpy("text_output")
                if said is not None:
                    yield {"text_output": said[0].decode()}
                if result.get_response().parameters["triton_final_response"].bool_param:
                    return

    async def gauges(self, family: str) -> dict[str, float]:
        """Return a family's values by the one label that tells them apart."""
        async with self.http.get(f"http://127.0.0.1:{self.triton.metrics}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        values = {}
        for sample in (s for found in families if found.name == family for s in found.samples):
            labels = dict(sample.labels)
            del labels["version"]
            if labels.pop("model") == self.dialect.model and len(labels) == 1:
                values[labels.popitem()[1]] = sample.value
        return values

    async def until(self, **wanted: float) -> None:
        """Wait until the gauge of requests shows what is `wanted`, by type."""
        seen: dict[str, float] = {}
        with anyio.move_on_after(20):
            while wanted != {kind: seen.get(kind) for kind in wanted}:
                await anyio.sleep(0.05)
                seen = await self.gauges("nv_trt_llm_request_metrics")
            return
        pytest.fail(f"wanted {wanted}, saw {seen}")

    def alive(self, *extra: str) -> tuple[int, str]:
        """Run the liveness probe as a pod does."""
        probe = [sys.executable, str(PROBE), self.dialect.model, self.dialect.runtime]
        port = f"--port={self.triton.http}"
        done = subprocess.run([*probe, port, *extra], capture_output=True, text=True, check=False)
        assert "" == done.stderr
        return done.returncode, done.stdout.strip()

    def _url(self, call: str) -> str:
        return f"http://127.0.0.1:{self.triton.http}/v2/models/{self.dialect.model}/{call}"


def _tensor(name: str, value: str | bool | int) -> InferInput:
    kinds = {str: ("BYTES", np.object_), bool: ("BOOL", np.bool_), int: ("INT32", np.int32)}
    kind, dtype = kinds[type(value)]
    tensor = InferInput(name, [1], kind)
    tensor.set_data_from_numpy(np.array([value], dtype=dtype))
    return tensor


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    async for line in response.content:
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture(scope="session")
def both_models() -> Iterator[Triton]:
    """One server with both models and every default."""
    second = f"--model-repository={MODELS / ENSEMBLE.folder}"
    with Triton(MODELS / LLMAPI.folder, (second, *load(LLMAPI, ENSEMBLE))) as triton:
        yield triton


@pytest.fixture
def served(both_models: Triton, dialect: Dialect, http: aiohttp.ClientSession) -> Served:
    return Served(both_models, dialect, http)


@pytest.fixture
def llmapi(both_models: Triton, http: aiohttp.ClientSession) -> Served:
    return Served(both_models, LLMAPI, http)


@pytest.fixture
def ensemble(both_models: Triton, http: aiohttp.ClientSession) -> Served:
    return Served(both_models, ENSEMBLE, http)


@pytest.fixture
def serve(tmp_path: Path, http: aiohttp.ClientSession) -> Iterator[Callable[..., Served]]:
    """Deploy one variant with the files that the operator writes for it.

    `serve(dialect, quantization=..., engine=..., **simulation)`
    """
    with ExitStack() as stack:

        def serve(
            dialect: Dialect,
            *,
            quantization: str = "none",
            engine: dict[str, Any] | None = None,
            speculative: dict[str, Any] | None = None,
            exit_timeout: int = 1,  # s; streams that a test left behind should not hold up its end
            **simulation: Any,
        ) -> Served:
            options = {"config": {"simulation": simulation}, **(engine or {})}
            variant = _variant(quantization, options, speculative)
            server = SERVERS[dialect.runtime]
            models = tmp_path / str(len(list(tmp_path.iterdir())))
            # In a pod a ConfigMap is mounted into the image's files.
            shutil.copytree(MODELS, models)
            configs = models / dialect.folder / dialect.model / "configs"
            configs.mkdir()
            for name, text in server.files(variant).items():
                (configs / name).write_text(text)
            location = locate(variant.source.uri)
            triton = Triton(
                models / dialect.folder,
                [
                    argument
                    for argument in server.arguments(location, exit_timeout)
                    if not argument.startswith("--model-repository=")
                ],
                env={
                    "LLM_CONFIG_PATH": str(configs / "model.yaml"),
                    "HEADGATE_VARIANT": variant.name,
                    "HEADGATE_QUANTIZATION": variant.quantization,
                },
            )
            return Served(stack.enter_context(triton), dialect, http)

        yield serve


def load(*dialects: Dialect) -> tuple[str, ...]:
    names = (f"--load-model={dialect.model}" for dialect in dialects)
    return ("--model-control-mode=explicit", *names)


def _variant(
    quantization: str, engine: dict[str, Any], speculative: dict[str, Any] | None
) -> Variant:
    return Variant.model_validate(
        {
            "name": quantization,
            "quantization": quantization,
            "source": {"uri": "file:///app/all_models/python"},
            "engine": engine,
            "speculative": speculative,
        }
    )
