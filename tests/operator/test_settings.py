import pytest
from pydantic import ValidationError

from headgate_operator.settings import Settings

GIVEN = {
    "NAMESPACE": "headgate",
    "REGION": "eu",
    "RUNTIME_IMAGE": "triton",
    "TRTLLM_SERVE_IMAGE": "trtllm",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GIVEN.items():
        monkeypatch.setenv(f"HEADGATE_OPERATOR_{name}", value)
    return monkeypatch


@pytest.mark.parametrize(
    ("given", "namespaces"),
    [(None, ("headgate",)), ("", ("headgate",)), ("a, b", ("a", "b")), ("*", None)],
)
def test_an_operator_looks_where_it_is_told_to(
    environment: pytest.MonkeyPatch, given: str | None, namespaces: tuple[str, ...] | None
) -> None:
    if given is not None:
        environment.setenv("HEADGATE_OPERATOR_WATCH_NAMESPACES", given)
    assert namespaces == Settings().namespaces


def test_a_leader_must_stop_before_another_one_starts(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HEADGATE_OPERATOR_RENEW_DEADLINE", "20")
    with pytest.raises(ValidationError, match="retry_period < renew_deadline < lease_duration"):
        Settings()


@pytest.mark.parametrize("name", GIVEN)
def test_what_cannot_be_guessed_must_be_said(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(f"HEADGATE_OPERATOR_{name}")
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
