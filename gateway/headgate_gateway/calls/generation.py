"""How to generate: what the client says; where it is silent, its route; and within its caps."""

from collections.abc import Mapping
from typing import Final

from headgate_api.snapshot import GenerationBody
from headgate_gateway.calls.adapter import Sampling
from headgate_gateway.edge.asked import Generation

USUAL_TEMPERATURE: Final = 1.0
"""Of OpenAI's servers, where nobody says anything."""
SAME: Final[Mapping[str, float]] = {}


def most_tokens(route: GenerationBody, limit: int | None, usual: int) -> int:
    """Tell how many tokens may be generated.

    Args:
        route: what the route says.
        limit: what the client says.
        usual: where neither says anything.

    >>> most_tokens(GenerationBody(max_output_tokens=50, cap_max_output_tokens=80), 100, 64)
    80
    """
    most = limit or route.max_output_tokens or usual
    return most if route.cap_max_output_tokens is None else min(most, route.cap_max_output_tokens)


def sampling(asked: Generation, route: GenerationBody, max_tokens: int) -> Sampling:
    """Settle how to sample."""
    seed = route.seed if asked.seed is None else asked.seed
    return Sampling(
        max_tokens=max_tokens,
        temperature=temperature(asked, route),
        top_p=route.top_p if asked.top_p is None else asked.top_p,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        # Theirs is signed, the tensor is not.
        seed=None if seed is None else seed % 2**64,
        stop=() if asked.stop is None else asked.stop_words,
    )


def otherwise(asked: Generation, settled: Sampling) -> Mapping[str, float]:
    """List what is not as the client's own body says it, by the body's field.

    The number of tokens is not among it: it is always told.
    """
    found: dict[str, float] = {}
    if settled.temperature is not None and settled.temperature != asked.temperature:
        found["temperature"] = settled.temperature
    if settled.top_p is not None and settled.top_p != asked.top_p:
        found["top_p"] = settled.top_p
    if settled.seed is not None and asked.seed is None:
        found["seed"] = settled.seed
    return found or SAME


def temperature(asked: Generation, route: GenerationBody) -> float | None:
    """Settle the temperature. None: nobody says anything."""
    said = route.temperature if asked.temperature is None else asked.temperature
    cap = route.cap_temperature
    if cap is None:
        return said
    # A server's own default must not be above the cap.
    return min(USUAL_TEMPERATURE if said is None else said, cap)
