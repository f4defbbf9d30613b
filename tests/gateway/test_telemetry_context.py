"""W3C trace context in and out, and who is sampled."""

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from headgate_gateway.telemetry.trace_context import (
    LONGEST_STATE,
    MOST_MEMBERS,
    Sampler,
    Trace,
    new_span_id,
)

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def begin(parent: str | None, state: str | None = None, sampler: Sampler | None = None) -> Trace:
    given = {b"traceparent": parent, b"tracestate": state}
    headers = {name: value.encode("latin-1") for name, value in given.items() if value is not None}
    return (sampler or Sampler()).begin(headers)


def test_a_client_s_trace_goes_on() -> None:
    trace = begin(PARENT, "vendor=a, other@sys=b")

    assert (int(TRACE_ID, 16), int(PARENT_ID, 16)) == (trace.trace_id, trace.parent_id)
    assert trace.sampled
    assert (
        f"traceparent: 00-{TRACE_ID}-00000000000000aa-01\r\ntracestate: vendor=a,other@sys=b\r\n"
        == trace.lines(0xAA).decode()
    )


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        PARENT.upper(),
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"00-{TRACE_ID}-{PARENT_ID}-1",
        f"00-{TRACE_ID}-{PARENT_ID}-01-more",
        f"00-{TRACE_ID}-{PARENT_ID}-01-",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[1:]}-{PARENT_ID}-01",
        f"{PARENT}, {PARENT}",
        f" {PARENT}",
        f"{PARENT}\n",
    ],
)
def test_a_missing_or_broken_one_begins_a_new_trace(parent: str | None) -> None:
    trace = begin(parent, "vendor=a")

    assert 0 == trace.parent_id
    assert TRACE_ID != f"{trace.trace_id:032x}"
    assert 1 == trace.lines(new_span_id()).count(b"\r\n")  # its tracestate went with it


@pytest.mark.parametrize("parent", [f"cc-{PARENT[3:]}", f"01-{PARENT[3:]}-what-ever"])
def test_a_later_version_is_read_as_far_as_it_is_known(parent: str) -> None:
    assert f"traceparent: {PARENT}".encode() in begin(parent).lines(int(PARENT_ID, 16))


def test_only_flags_that_are_known_are_passed_on() -> None:
    assert 0x03 == begin(f"{PARENT[:-2]}ff").flags
    assert 0x00 == begin(f"{PARENT[:-2]}fc").flags


@pytest.mark.parametrize(
    "state",
    [
        "Vendor=a",
        "vendor",
        "vendor=",
        "vendor=a,vendor=b",
        "vendor=a=b",
        "v=\x07",
        "é=a",
        ",".join(f"v{n}=a" for n in range(MOST_MEMBERS + 1)),
    ],
)
def test_a_broken_tracestate_is_dropped_and_the_trace_is_kept(state: str) -> None:
    trace = begin(PARENT, state)

    assert b"" == trace.state
    assert int(PARENT_ID, 16) == trace.parent_id


def test_a_long_tracestate_loses_its_oldest_members() -> None:
    members = [f"v{n}={'x' * 200}" for n in range(4)]

    assert ",".join(members[:2]) == begin(PARENT, ",,".join(members)).state.decode()


@given(parent=st.binary(max_size=80), state=st.binary(max_size=2 * LONGEST_STATE))
def test_whatever_comes_what_leaves_is_two_lines_at_most(parent: bytes, state: bytes) -> None:
    trace = Sampler().begin({b"traceparent": parent, b"tracestate": state})
    lines = trace.lines(1)

    assert lines.endswith(b"\r\n")
    assert lines.count(b"\n") == lines.count(b"\r") <= 2
    assert len(lines) <= 72 + 14 + LONGEST_STATE


def test_a_client_s_decision_holds_where_it_is_followed() -> None:
    never, always = Sampler(ratio=0.0), Sampler(ratio=1.0)

    assert begin(PARENT, sampler=never).sampled
    assert not begin(f"{PARENT[:-2]}00", sampler=always).sampled
    assert not begin(PARENT, sampler=Sampler(ratio=0.0, follow=False)).sampled
    assert begin(f"{PARENT[:-2]}00", sampler=Sampler(ratio=1.0, follow=False)).sampled


def test_new_traces_are_sampled_by_their_ratio() -> None:
    sampled = Counter(begin(None, sampler=Sampler(ratio=0.25)).sampled for _ in range(4000))

    assert 800 < sampled[True] < 1200  # fifteen standard deviations
    assert not any(begin(None, sampler=Sampler(ratio=0.0)).sampled for _ in range(100))
    assert all(begin(None, sampler=Sampler(ratio=1.0)).sampled for _ in range(100))


def test_two_gateways_sample_the_same_traces() -> None:
    first, second = Sampler(ratio=0.5, follow=False), Sampler(ratio=0.5, follow=False)
    for _ in range(100):
        parent = f"00-{begin(None).trace_id:032x}-{PARENT_ID}-00"
        assert begin(parent, sampler=first).sampled == begin(parent, sampler=second).sampled
