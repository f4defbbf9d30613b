"""Idempotency-Keys in the chart: one memory for all gateways, or none at all."""

import pytest

from .helm import DEFAULTS, Refused, render

EMBEDDED = ("gateway.idempotency.store=embedded", "gateway.persistence.enabled=true")
VALKEY = ("gateway.idempotency.store=valkey", "gateway.idempotency.urlSecret.name=keys")


def environment(*sets: str) -> dict[str, object]:
    container = render(DEFAULTS, *sets).container("gateway")
    return {
        each["name"].removeprefix("HEADGATE_GATEWAY_"): each.get("value", each.get("valueFrom"))
        for each in container["env"]
        if "IDEMPOTENCY" in each["name"]
    }


def test_keys_are_remembered_nowhere_unless_values_say_where() -> None:
    assert {} == environment()


def test_one_gateway_with_a_volume_remembers_keys_itself() -> None:
    assert {"IDEMPOTENCY_STORE": "embedded"} == environment(*EMBEDDED, "gateway.replicas=1")


def test_several_gateways_share_a_server_whose_url_comes_from_a_secret() -> None:
    expected = {
        "IDEMPOTENCY_STORE": "valkey",
        "IDEMPOTENCY_URL": {"secretKeyRef": {"name": "keys", "key": "url"}},
    }
    assert expected == environment(*VALKEY, "gateway.replicas=3")


@pytest.mark.parametrize("replicas", ["2", "null"])
def test_several_gateways_may_not_each_have_a_memory_of_its_own(replicas: str) -> None:
    with pytest.raises(Refused, match=r"set gateway\.replicas=1, or gateway\.idempotency\.store="):
        render(DEFAULTS, *EMBEDDED, f"gateway.replicas={replicas}")


def test_a_memory_that_ends_with_its_pod_is_refused() -> None:
    with pytest.raises(Refused, match=r"set gateway\.persistence\.enabled=true, or"):
        render(DEFAULTS, EMBEDDED[0], "gateway.replicas=1")


def test_a_server_without_a_url_is_refused() -> None:
    with pytest.raises(Refused, match=r"set gateway\.idempotency\.urlSecret\.name to a Secret"):
        render(DEFAULTS, VALKEY[0])


def test_the_volume_outlives_a_scale_to_zero_where_it_holds_keys() -> None:
    def policy(*sets: str) -> object:
        manifest = render(DEFAULTS, *sets).get("StatefulSet", "headgate-gateway")
        return manifest["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"]

    assert "Retain" == policy(*EMBEDDED, "gateway.replicas=1")
    assert "Delete" == policy("gateway.persistence.enabled=true")
