"""By when it must all be over: what the policy and the headers of a client say."""

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import DeadlineBody
from headgate_gateway.calls.deadline import LONGEST, Deadline, deadline
from headgate_gateway.refusals import Refusal

NOW = 5000.0
POLICY = DeadlineBody(total=60.0, stream=300.0, reserve=2.0)
OURS, GRPC, ENVOY, SDK = (
    b"x-request-timeout-ms",
    b"grpc-timeout",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-stainless-read-timeout",
)


def find(headers: dict[bytes, bytes], *, stream: bool = False) -> Deadline:
    found = deadline(POLICY, headers, NOW, stream=stream)
    assert isinstance(found, Deadline)
    return found


# headers, then for a plain answer when it ends, when the model is stopped, and who says so, and the
# same for a stream
SAID = [
    ({}, (60, 58, "policy"), (300, 298, "policy")),
    ({OURS: b"1500"}, (1.5, 1.35, OURS), (1.5, 1.35, OURS)),
    ({OURS: b"50000"}, (50, 48, OURS), (50, 48, OURS)),
    ({OURS: b"90000"}, (60, 58, "policy"), (90, 88, OURS)),
    ({OURS: b"0"}, (0, 0, OURS), (0, 0, OURS)),
    ({GRPC: b"1500m"}, (1.5, 1.35, GRPC), (1.5, 1.35, GRPC)),
    ({GRPC: b"1H"}, (60, 58, "policy"), (300, 298, "policy")),
    ({GRPC: b"1M"}, (60, 58, "policy"), (60, 58, GRPC)),
    ({GRPC: b"10S"}, (10, 9, GRPC), (10, 9, GRPC)),
    ({GRPC: b"99999999u"}, (60, 58, "policy"), (99.999999, 97.999999, GRPC)),
    ({GRPC: b"99999999n"}, (0.099999999, 0.0899999991, GRPC), (0.099999999, 0.0899999991, GRPC)),
    ({ENVOY: b"15000"}, (15, 13.5, ENVOY), (15, 13.5, ENVOY)),
    ({SDK: b"10"}, (10, 9, SDK), (300, 298, "policy")),
    ({SDK: b"1.5"}, (1.5, 1.35, SDK), (300, 298, "policy")),
    ({SDK: b"600"}, (60, 58, "policy"), (300, 298, "policy")),
    ({OURS: b"9000", GRPC: b"8S", ENVOY: b"7000"}, (7, 6.3, ENVOY), (7, 6.3, ENVOY)),
    ({OURS: b"5000", GRPC: b"8S", ENVOY: b"7000"}, (5, 4.5, OURS), (5, 4.5, OURS)),
    ({SDK: b"5", OURS: b"6000"}, (5, 4.5, SDK), (6, 5.4, OURS)),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("headers", "plain", "streamed"), SAID)
def test_the_earliest_of_all_that_is_said_holds(
    headers: dict[bytes, bytes],
    plain: tuple[float, float, bytes | str],
    streamed: tuple[float, float, bytes | str],
    stream: bool,
) -> None:
    found = find(headers, stream=stream)
    ends, stops, by = streamed if stream else plain

    assert (pytest.approx(NOW + ends), pytest.approx(NOW + stops)) == (
        found.ends_at,
        found.stop_at,
    )
    assert (by if isinstance(by, str) else by.decode()) == found.source


@pytest.mark.parametrize(
    ("given", "beat"),
    [(b"6", 2.0), (b"0.2", 0.1), (b"0", 0.1), (b"600", 200.0), (b"none", LONGEST)],
)
def test_how_long_a_client_bears_silence_says_how_often_a_stream_shows_life(
    given: bytes, beat: float
) -> None:
    assert pytest.approx(beat) == find({SDK: given}, stream=True).beat


NO_TIMES = {
    OURS: [b"", b"1.5", b"-1", b"1s", b"1500ms", b"1, 2", b"0x10", b"1e3", b"1" * 13, b"\xd9\xa1"],
    GRPC: [b"", b"1", b"S", b"1s", b"123456789m", b"-1S", b"1.5S", b"1 S", b"1S, 2S", b"1SS"],
    ENVOY: [b"", b"15s", b"1.0", b"1000 "],
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in NO_TIMES.items() for v in vs])
def test_what_is_no_time_is_refused_and_not_guessed(
    name: bytes, value: bytes, stream: bool
) -> None:
    found = deadline(POLICY, {name: value}, NOW, stream=stream)

    assert isinstance(found, Refusal)
    assert ("invalid_value", 400) == (found.code, found.status)
    assert name.decode() in found.message
    assert ", such as 1500" in found.message


@pytest.mark.parametrize("value", [b"None", b"NOT_GIVEN", b"", b"1, 2"])
def test_what_an_sdk_writes_by_itself_is_never_an_error(value: bytes) -> None:
    assert "policy" == find({SDK: value}).source


UNITS = {"H": 3600, "M": 60, "S": 1, "m": Fraction(1, 10**3), "u": Fraction(1, 10**6)}
UNITS["n"] = Fraction(1, 10**9)


@given(number=st.integers(0, 99_999_999), unit=st.sampled_from(sorted(UNITS)), stream=st.booleans())
def test_every_time_that_grpc_can_write_is_read(number: int, unit: str, stream: bool) -> None:
    found = find({GRPC: f"{number}{unit}".encode()}, stream=stream)
    seconds = number * UNITS[unit]

    allowed = POLICY.stream if stream else POLICY.total
    assert pytest.approx(float(min(seconds, allowed)), abs=1e-6) == found.ends_at - NOW


@given(
    headers=st.dictionaries(
        st.sampled_from([OURS, GRPC, ENVOY, SDK]),
        st.one_of(st.binary(max_size=12), st.from_regex(rb"[0-9]{1,9}[HMSmun]?", fullmatch=True)),
    ),
    stream=st.booleans(),
)
def test_whatever_is_said_a_client_gets_no_more_than_the_policy_allows(
    headers: dict[bytes, bytes], stream: bool
) -> None:
    found = deadline(POLICY, headers, NOW, stream=stream)
    if isinstance(found, Refusal):
        return
    allowed = POLICY.stream if stream else POLICY.total

    assert NOW <= found.stop_at <= found.ends_at <= NOW + allowed
    assert found.ends_at - found.stop_at <= POLICY.reserve + 1e-9
    assert found.beat >= 0.1


@given(st.permutations([(OURS, b"3000"), (GRPC, b"2S"), (ENVOY, b"4000"), (SDK, b"5")]))
def test_the_order_of_headers_does_not_matter(headers: list[tuple[bytes, bytes]]) -> None:
    found = find(dict(headers))
    assert (NOW + 2.0, "grpc-timeout") == (found.ends_at, found.source)
