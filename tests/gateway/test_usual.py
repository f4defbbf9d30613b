"""Requests that end as nearly all do: told in short, and told the same as in full."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from headgate_api.snapshot import Entry
from headgate_gateway.calls.events import End, Usage
from headgate_gateway.explain.explain import line_of
from headgate_gateway.explain.record import OWN
from headgate_gateway.feedback import Feedback
from headgate_gateway.metrics import Metrics
from headgate_gateway.telemetry.facts import Facts
from headgate_gateway.telemetry.series import Spread
from headgate_gateway.telemetry.tracing import Tracing
from headgate_gateway.teller import Ended, Teller
from headgate_gateway.usual import BATCH

from .conftest import ENSEMBLE, KEY, MODEL, TENANT, Running, cohort, model, policy
from .exchanges import Recorded
from .test_calls import ask
from .upstream import ensemble_saying, saying

Start = Callable[..., Awaitable[Running]]


class Told:
    """What a teller of its own has told."""

    def __init__(self, *, conventions: Any = "v1.41") -> None:
        self.lines: list[bytes] = []
        self.metrics, self.feedback = Metrics("here", conventions), Feedback("test")
        self.teller = Teller(self.metrics, self.feedback, write=self.lines.append)

    @property
    def facts(self) -> list[Facts]:
        return [msgspec.json.decode(line, type=Facts) for line in self.lines]

    @property
    def numbers(self) -> dict[str, float]:
        metrics = text_string_to_metric_families(self.metrics.exposition().decode())
        samples = [sample for metric in metrics for sample in metric.samples]
        return {f"{sample.name}{sample.labels}": sample.value for sample in samples}

    @property
    def report(self) -> Any:
        return msgspec.json.decode(self.feedback.body())


class Kept(deque[Ended]):
    """Requests as their teller gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Ended] = []

    def append(self, one: Ended) -> None:
        self.all.append(one)
        super().append(one)


def watched(running: Running) -> list[Ended]:
    """Return what will have ended of the requests that come from now on."""
    kept = running.gateway.inference.teller._waiting = Kept()
    return kept.all


def in_full(ended: list[Ended], **more: Any) -> Told:
    told = Told(**more)
    told.lines += [told.teller._tell_in_full(*one) for one in ended]
    return told


def in_short(ended: list[Ended], **more: Any) -> Told:
    told = Told(**more)
    for one in ended:
        assert told.teller._is_usual(one[0], one[2])
        told.teller._tell(*one)
    return told


def assert_same(short: Told, full: Told) -> None:
    for one, other in zip(short.facts, full.facts, strict=True):
        assert abs((one.time - other.time).total_seconds()) < 60
        assert msgspec.structs.replace(one, time=other.time) == other
    assert short.numbers == pytest.approx(full.numbers)  # sums depend on the order
    (one,), (other,) = short.report["cohorts"], full.report["cohorts"]
    assert one.pop("first_token_sum") == pytest.approx(other.pop("first_token_sum"), abs=1e-5)
    assert one == other


@pytest.mark.parametrize("conventions", ["v1.41", "latest"])
@pytest.mark.parametrize("entries", [(MODEL, TENANT), policy()], ids=["direct", "routed"])
async def test_what_is_told_in_short_is_what_is_told_in_full(
    start: Start,
    entries: tuple[Entry, ...],
    conventions: str,
) -> None:
    running = await start(saying("Good", " day"), entries=entries)
    ended = watched(running)
    for stream in (False, True, False):
        await ask(running, stream=stream)

    assert 3 == len(ended)
    made = {"conventions": conventions}
    assert_same(in_short(ended, **made), in_full(ended, **made))


@pytest.mark.parametrize("conventions", ["v1.41", "latest"])
async def test_models_that_count_their_tokens_are_told_of_in_short_as_well(
    start: Start, conventions: str
) -> None:
    running = await start(ensemble_saying("Good"), entries=(ENSEMBLE, TENANT))
    ended = watched(running)
    for usage in (
        Usage(7, 1),
        Usage(7, 9, cached_tokens=3),
        Usage(7, 9, cached_tokens=0, reasoning_tokens=4),
    ):
        await ask(running)
        ended[-1][2].end = End("length", usage)

    made = {"conventions": conventions}
    assert_same(in_short(ended, **made), in_full(ended, **made))


async def test_requests_with_an_idempotency_key_are_told_of_in_short_as_well(start: Start) -> None:
    running = await start(saying("Hi"))
    ended = watched(running)
    for idempotency in (None, "claimed"):
        await ask(running)
        ended[-1][2].idempotency = idempotency

    short = in_short(ended)
    assert [None, "claimed"] == [facts.idempotency for facts in short.facts]
    assert_same(short, in_full(ended))


async def test_a_line_of_the_log_can_be_written_again_for_an_explanation(start: Start) -> None:
    running = await start(ensemble_saying("Good"), entries=(ENSEMBLE, TENANT))
    ended = watched(running)
    for usage in (Usage(7, 1), Usage(7, 9, cached_tokens=0, reasoning_tokens=4)):
        await ask(running)
        ended[-1][2].end = End("length", usage)

    told = in_short(ended)
    again = [line_of(record, OWN.decode(record.own)) for record in told.teller.ring]
    assert told.lines == again


async def test_every_request_is_in_the_numbers_whenever_they_are_read(start: Start) -> None:
    running = await start(saying("Hi"))
    metrics, usual = running.gateway.metrics, running.gateway.inference.teller._usual
    for number in range(1, BATCH + 3):
        await ask(running)
        assert len(usual._waiting) < BATCH
        if number in (1, 2, 7, BATCH, BATCH + 2):
            text = metrics.exposition().decode()
            assert f'requests_total{{code="",status="200"}} {number}.0' in text
            assert f'stage_duration_seconds_count{{stage="parse"}} {number}.0' in text
            assert not usual._waiting
    assert f'"answered":{BATCH + 2}' in running.gateway.feedback.body().decode()


async def test_room_is_made_for_one_kind_of_requests_at_a_time(start: Start) -> None:
    running = await start(saying("Hi"))
    usual = running.gateway.inference.teller._usual
    for number in range(BATCH):
        await ask(running, stream=number % 2 == 1)
    plain, streams = usual._kinds.values()

    assert (0, BATCH // 2) == (len(plain.waiting), len(streams.waiting))
    assert usual._waiting == BATCH // 2 * [streams]
    assert f'"answered":{BATCH}' in running.gateway.feedback.body().decode()


async def test_what_is_not_as_usual_is_told_in_full(start: Start) -> None:
    running = await start(saying("Hi"))
    ended = watched(running)
    await ask(running)
    await running.gateway.edge.handle(Recorded("POST", "/v1/chat/completions", KEY, b"{}"))
    await ask(running, model="unknown")

    teller = running.gateway.inference.teller
    assert [True, False, False] == [teller._is_usual(one, told) for one, _, told in ended]


async def test_a_model_that_gets_other_names_is_told_of_by_them(start: Start) -> None:
    """A new snapshot may leave all that is known of a request but for its series' labels."""
    _, tenant, front = policy()
    running = await start(saying("Hi"), entries=policy())
    ended = watched(running)
    await ask(running)
    await running.take(tenant, front, model(cohort(), public_name="another"))
    await ask(running)
    other = structs.replace(cohort(), variant="fp8")
    await running.take(tenant, front, model(other, public_name="another"))
    await ask(running)

    assert_same(in_short(ended), in_full(ended))


async def test_a_request_that_is_exported_as_a_trace_is_told_in_full(start: Start) -> None:
    running = await start(saying("Hi"))
    ended = watched(running)
    await ask(running)

    class Collector:
        exported = failed = dropped = 0
        put = close = lambda *_: None

    request, _, outcome = ended[0]
    tracing = Tracing(collector=Collector())
    teller = Teller(Metrics(), Feedback("test"), tracing)
    assert teller._is_usual(request, outcome) is not request.trace.sampled
    tracing.slow = 0.0
    assert not teller._is_usual(request, outcome)


@given(st.lists(st.integers(min_value=0, max_value=40), max_size=60))
def test_many_values_at_once_are_values_one_by_one(values: list[int]) -> None:
    one_by_one, at_once = Spread((1, 2, 5, 10, 20)), Spread((1, 2, 5, 10, 20))
    for value in values:
        one_by_one.observe(value)
    at_once.observe_all(values)

    assert one_by_one.counts == at_once.counts
    assert one_by_one.total == at_once.total
