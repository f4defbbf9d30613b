from copy import deepcopy
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from headgate_api.types import Duration
from headgate_api.units import parse_duration, parse_quantity

UNITS = {"h": 3600_000, "m": 60_000, "s": 1000, "ms": 1}


@given(
    amounts=st.lists(st.integers(0, 999_999), min_size=4, max_size=4),
    used=st.sets(st.sampled_from([*UNITS]), min_size=1),
)
def test_a_duration_is_the_sum_of_its_parts(amounts: list[int], used: set[str]) -> None:
    parts = [(n, unit) for n, unit in zip(amounts, UNITS, strict=True) if unit in used]

    text = "".join(f"{n}{unit}" for n, unit in parts)

    assert sum(n * UNITS[unit] for n, unit in parts) == round(parse_duration(text) * 1000)
    assert text == str(Duration(text)) == str(deepcopy(Duration(text)))


@pytest.mark.parametrize("text", ["", "5", "5 m", "1d", "1m1h", "1.5h", "-1s", "1h\n", "1000000h"])
def test_what_is_no_duration_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write 30s, 15m or 1h30m"):
        parse_duration(text)


@given(number=st.decimals("-1e6", "1e6", places=3))
def test_suffixes_of_quantities_are_factors(number: Decimal) -> None:
    assert number == parse_quantity(f"{number}")
    assert number / 1000 == parse_quantity(f"{number}m")
    assert number * 1000 == parse_quantity(f"{number}k") == parse_quantity(f"{number}e3")
    assert number * 1024**2 == parse_quantity(f"{number}Mi")


@pytest.mark.parametrize("text", ["", "1 Gi", "1gi", "GB", "1GiB", "0x10", "1e", "1K"])
def test_what_is_no_quantity_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity: write 1Gi, 500m or 2"):
        parse_quantity(text)
