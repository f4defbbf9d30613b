"""Keeps full garbage collections short: with ten thousand objects one stopped us for 0.2 s.

Nearly all that we hold are objects of the cluster: trees, which go when nobody refers to them. So
what outlives one full collection is left out of the next ones, until a thorough one now and then.
"""

import gc
from typing import Any, Final

OLDEST: Final = 2  # generation


def spare() -> None:
    """From now on, leave out of a full collection what the one before it has seen."""
    gc.callbacks.append(_after)


def collect() -> None:
    """Look at everything, for what has become garbage since it was left out."""
    gc.unfreeze()
    gc.collect()


def _after(phase: str, told: dict[str, Any]) -> None:
    if phase == "stop" and told["generation"] == OLDEST:
        gc.freeze()
