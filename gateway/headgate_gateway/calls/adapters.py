"""Which adapter speaks to which runtime."""

from collections.abc import Mapping
from typing import Final

from headgate_gateway.calls.adapter import Adapter
from headgate_gateway.calls.openai import OPENAI
from headgate_gateway.calls.triton import ENSEMBLE, LLMAPI

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "triton-llmapi": LLMAPI,
    "triton-python": ENSEMBLE,
    "trtllm-serve": OPENAI,
}
"""By `Cohort.runtime`."""
