import pytest
from pydantic import ValidationError

from headgate_gateway.settings import Settings


@pytest.fixture(autouse=True)
def _required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_NAMESPACE", "headgate")
    monkeypatch.setenv("HEADGATE_GATEWAY_REGION", "here")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_DRAIN", "5")

    assert 5.0 == Settings().drain


def test_a_drain_of_zero_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_DRAIN", "0")

    with pytest.raises(ValidationError, match="greater than 0"):
        Settings()


def test_a_region_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADGATE_GATEWAY_REGION")

    with pytest.raises(ValidationError, match="region"):
        Settings()


@pytest.mark.parametrize(
    ("watched", "namespaces"),
    [("", ("headgate",)), ("a, b,a", ("a", "b")), ("*", (None,)), ("a,*", (None,))],
)
def test_namespaces_are_the_release_s_unless_named(
    monkeypatch: pytest.MonkeyPatch, watched: str, namespaces: tuple[str | None, ...]
) -> None:
    monkeypatch.setenv("HEADGATE_GATEWAY_WATCH_NAMESPACES", watched)

    assert namespaces == Settings().namespaces
