"""How fast, how wide and how exact a simulated model is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from simulated_llm.prose import Drift


@dataclass(frozen=True, slots=True)
class Precision:
    """What a quantization does to a model."""

    step: float  # time of a decoding step, as a part of the unquantized one
    drift: float  # share of phrases that come out otherwise


PRECISIONS: Final[Mapping[str, Precision]] = {
    "none": Precision(step=1.0, drift=0.02),
    "int8": Precision(step=0.8, drift=0.05),
    "fp8": Precision(step=0.7, drift=0.04),
    "w4a8-awq": Precision(step=0.65, drift=0.06),
    "int4-awq": Precision(step=0.6, drift=0.08),
    "nvfp4": Precision(step=0.5, drift=0.08),
}
"""Invented, in the order that people find on GPUs: what is smaller is faster and less exact."""

DEFAULT_SLOTS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keys of `simulation`. The defaults stay below 2,000 tokens/s at any load."""

    step_ms: float = 8.0
    """One decoding step of an empty batch, at quantization `none`."""
    step_ms_per_sequence: float = 0.5
    """What each sequence in the batch adds to a step."""
    prefill_tokens_per_s: float = 8000.0
    """A prompt holds up the whole batch for its length divided by this."""
    slots: int = DEFAULT_SLOTS
    """Sequences decoded together. Without it: the engine's max_batch_size."""
    max_waiting: int = 0
    """Requests in the queue before others are refused; 0 is no limit."""
    kv_blocks: int = 4096
    """Size of the KV cache. Requests that do not fit wait."""
    tokens_per_block: int = 32
    cancellation_check_ms: float = 80.0
    """How often clients that left are looked for."""
    load_s: float = 0.0
    """How long loading takes."""
    draft_ms: float = 0.4
    """What each guessed token adds to a step, where the model guesses."""
    acceptance_percent: int = 70
    """Share of the guessed tokens that are right."""
    fail_load: str = ""
    """Loading fails with this message."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as deployed: its settings, and what its variant means for speed and text."""

    settings: Settings
    drift: Drift
    step_s: float  # one step of an empty batch at this precision
    variant: str = ""  # whom scripts may address
    draft_len: int = 0  # tokens guessed for each step; 0: the model does not guess


def model(engine: Mapping[str, Any], environment: Mapping[str, str]) -> Model:
    """Read the engine's options and the pod's environment.

    Raises:
        ValueError: `simulation` has an unknown key or a value of a wrong type, or
            `speculative_config` does not say how far to guess.
    """
    settings = _settings(engine)
    quantization = environment.get("HEADGATE_QUANTIZATION", "none")
    precision = PRECISIONS.get(quantization, PRECISIONS["none"])
    return Model(
        settings,
        Drift(quantization, precision.drift),
        settings.step_ms * precision.step / 1000,
        variant=environment.get("HEADGATE_VARIANT", ""),
        draft_len=_draft_len(engine.get("speculative_config")),
    )


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the `parameters` of a config.pbtxt: strings, or JSON where they are not."""
    pairs = config.get("parameters", {}).items()
    return {name: _decoded(value["string_value"]) for name, value in pairs}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settings(engine: Mapping[str, Any]) -> Settings:
    given = engine.get("simulation") or {}
    if fault := _fault(given):
        raise ValueError(fault)
    slots = given.get("slots") or engine.get("max_batch_size") or DEFAULT_SLOTS
    return Settings(**{**given, "slots": int(slots)})


def _draft_len(given: Any) -> int:
    if given is None:
        return 0
    length = given.get("max_draft_len") if isinstance(given, Mapping) else None
    if type(length) is not int or length < 1:
        raise ValueError(f"speculative_config is {given!r}; max_draft_len must be 1 or more")
    return length


def _fault(given: Any) -> str | None:
    """Say what is wrong with `simulation`, if anything is."""
    if not isinstance(given, Mapping):
        return f"simulation is {given!r}; it must be a mapping"
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Settings)}
    for name, value in given.items():
        if name not in kinds:
            return f"simulation.{name} is unknown; there are {', '.join(kinds)}"
        # A whole number will do where a fraction may stand; true and false never will.
        wanted = (int, float) if kinds[name] is float else (kinds[name],)
        if type(value) not in wanted:
            return f"simulation.{name} is {value!r}; it must be {kinds[name].__name__}"
        if not isinstance(value, str) and value < 0:
            return f"simulation.{name} is {value}; it must not be negative"
    return None
