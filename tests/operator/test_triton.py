"""The probe against a real Triton that serves the simulated LLM under both runtimes' names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headgate_api.errors import Unavailable
from headgate_cluster.files import TREE
from headgate_cluster.triton import Triton
from headgate_controllers.contract import Manifest
from headgate_operator.triton import INPUTS, probe

pytestmark = pytest.mark.triton
MODELS = TREE / "images" / "triton-sim" / "models"
POD: Manifest = {"status": {"podIP": "127.0.0.1"}}
Start = Callable[..., Triton]


@pytest.mark.parametrize(("folder", "model"), [("llmapi", "tensorrt_llm"), ("python", "ensemble")])
async def test_a_ready_model_answers_with_a_token(
    triton: Start, tmp_path: Path, folder: str, model: str
) -> None:
    settings = tmp_path / "model.yaml"
    settings.write_text("triton_config: {max_batch_size: 0, decoupled: true}\n")
    load = ("--model-control-mode=explicit", f"--load-model={model}")
    server = triton(MODELS / folder, load, env={"LLM_CONFIG_PATH": str(settings)})
    await probe(POD, port=server.grpc)


async def test_a_server_without_a_model_of_ours_says_so(triton: Start) -> None:
    server = triton(MODELS / "python", ["--model-control-mode=explicit"])
    with pytest.raises(Unavailable, match=f"none of the models {', '.join(INPUTS)} ready"):
        await probe(POD, port=server.grpc)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="the model server answered"):
        await probe(POD, port=1)
