"""Full collections that look only at what is new."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from headgate_operator import garbage


class Knot:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def sparing() -> Iterator[None]:
    before = [*gc.callbacks]
    garbage.spare()
    yield
    gc.callbacks[:] = before
    gc.unfreeze()


@pytest.mark.usefixtures("sparing")
def test_what_outlived_a_full_collection_is_left_out_until_a_thorough_one() -> None:
    knot = Knot()
    alive = weakref.ref(knot)
    gc.collect()
    del knot

    gc.collect()
    assert alive() is not None

    garbage.collect()
    assert alive() is None
