"""Which adapter speaks to which runtime."""

from collections.abc import Mapping
from typing import Final

from headgate_gateway.calls.adapter import Adapter
from headgate_gateway.calls.openai import OPENAI
from headgate_gateway.calls.triton import ENSEMBLE, GUESSING_LLMAPI, LLMAPI

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "triton-llmapi": LLMAPI,
    "triton-python": ENSEMBLE,
    "trtllm-serve": OPENAI,
}
"""By `Cohort.runtime`."""
GUESSING: Final[Mapping[str, Adapter]] = {**ADAPTERS, "triton-llmapi": GUESSING_LLMAPI}
"""Where the pods guess ahead: the same, and whoever can tell of it is asked to."""
