import pytest

from headgate_api.errors import TerminalError
from headgate_gateway.settings import read_settings


@pytest.fixture(autouse=True)
def _required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_NAMESPACE", "headgate")
    monkeypatch.setenv("HEADGATE_GATEWAY_REGION", "here")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_DRAIN", "5")

    assert 5.0 == read_settings().drain


def test_what_is_given_wins_over_the_environment_and_is_checked_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_PORT", "http")

    assert 8081 == read_settings(port=8081).port
    with pytest.raises(TerminalError, match="PORT: Expected `int` <= 65535"):
        read_settings(port=65536)


def test_a_drain_of_zero_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_DRAIN", "0")

    with pytest.raises(TerminalError, match=r"DRAIN: Expected `float` > 0"):
        read_settings()


def test_a_region_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADGATE_GATEWAY_REGION")

    with pytest.raises(TerminalError, match="REGION"):
        read_settings()


@pytest.mark.parametrize("region", ["", "Here", "a\r\nset-cookie: b", "a\n"])
def test_a_region_that_no_header_may_carry_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_REGION", region)

    with pytest.raises(TerminalError, match="REGION"):
        read_settings()


def test_every_wrong_setting_is_named_as_the_environment_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HEADGATE_GATEWAY_REGION")
    monkeypatch.setenv("HEADGATE_GATEWAY_PORT", "http")

    with pytest.raises(TerminalError) as caught:
        read_settings()
    assert "HEADGATE_GATEWAY_REGION: it is required" in str(caught.value)
    assert "HEADGATE_GATEWAY_PORT: Expected `int`" in str(caught.value)


def test_a_word_that_is_none_is_told_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_IDEMPOTENCY_STORE", "embeded")

    with pytest.raises(TerminalError, match="'embeded'; use none or embedded or valkey"):
        read_settings(region="local", namespace="x")


@pytest.mark.parametrize(
    ("watched", "namespaces"),
    [("", ("headgate",)), ("a, b,a", ("a", "b")), ("*", (None,)), ("a,*", (None,))],
)
def test_namespaces_are_the_release_s_unless_named(
    monkeypatch: pytest.MonkeyPatch, watched: str, namespaces: tuple[str | None, ...]
) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_WATCH_NAMESPACES", watched)

    assert namespaces == read_settings().namespaces
