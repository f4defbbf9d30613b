"""Where a fuzzer begins: what real programs send, and what broke something once."""

import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, settings, strategies as st

FOLDER: Final = Path(__file__).with_name("fuzz")
SECONDS: Final = float(os.environ.get("HEADGATE_FUZZ_SECONDS", "0"))
"""For so long each property is tried again, with new examples."""
TRIES: Final = settings(
    max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
"""A second or two for each property."""


def seeds(kind: str) -> list[bytes]:
    """Read the corpus of one kind, in a stable order."""
    found = [path.read_bytes() for path in sorted((FOLDER / kind).iterdir())]
    assert found, kind
    return found


def hold(holds: Callable[[], None]) -> None:
    """Try a property once, or for as long as a soak was asked for."""
    end = time.monotonic() + SECONDS
    holds()
    while time.monotonic() < end:
        holds()


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Take one or two seeds and cut, double, overwrite and insert.

    Args:
        draw: hypothesis gives it.
        seeds: to begin with.
        words: what is worth inserting.
    """
    data = draw(st.sampled_from(seeds))
    if draw(st.booleans()):
        data += draw(st.sampled_from(seeds))
    piece = st.one_of(st.sampled_from(words), st.binary(min_size=1, max_size=4))
    for _ in range(draw(st.integers(0, 5))):
        one, other = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        match draw(st.sampled_from(("insert", "overwrite", "cut", "double", "end"))):
            case "insert":
                data = data[:one] + draw(piece) + data[one:]
            case "overwrite":
                new = draw(piece)
                data = data[:one] + new + data[one + len(new) :]
            case "cut":
                data = data[:one] + data[other:]
            case "double":
                data = data[:other] + data[one:]
            case _:
                data = data[:other]
    return data


@st.composite
def in_pieces(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Cut bytes as a network may."""
    data = draw(whole)
    cuts = draw(st.one_of(st.just([]), st.lists(st.integers(0, len(data)), max_size=8)))
    if not cuts and draw(st.integers(0, 9)) == 9:
        return [data[i : i + 1] for i in range(len(data))]
    ends = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(ends) if start < end]
