"""A real Triton with the simulated LLM, in either of its dialects."""

from typing import Final

from headgate_cluster.files import TREE
from headgate_cluster.triton import Triton

MODELS: Final = TREE / "images" / "triton-sim" / "models"
NAMES: Final = {"llmapi": "tensorrt_llm", "python": "ensemble"}
"""Triton's names of the models, by their folder."""


def simulated(folder: str, **environment: str) -> Triton:
    """Make one that is not started yet."""
    arguments = ["--model-control-mode=explicit", f"--load-model={NAMES[folder]}"]
    return Triton(MODELS / folder, arguments, env=environment)
