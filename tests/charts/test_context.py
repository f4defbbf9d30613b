"""Tokenizers of models in the chart: a claim with files, or hosts that may be asked for them."""

import pytest

from .helm import DEFAULTS, Refused, render

CLAIM = "gateway.tokenizers.claimName=tokenizers"


def test_nothing_is_mounted_and_nobody_is_asked_unless_values_say_so() -> None:
    container = render(DEFAULTS).container("gateway")
    assert "EGRESS" not in str(container["env"])
    assert "tokenizers" not in str(container["volumeMounts"])


@pytest.mark.parametrize("more", ["", "gateway.persistence.enabled=true"])
def test_a_claim_is_mounted_where_files_of_models_lie(more: str) -> None:
    release = render(DEFAULTS, CLAIM, *filter(None, [more]))
    mount = {"name": "tokenizers", "mountPath": "/tokenizers", "readOnly": True}
    assert mount in release.container("gateway")["volumeMounts"]
    claim = {"claimName": "tokenizers", "readOnly": True}
    pod = release.get("StatefulSet", "headgate-gateway")["spec"]["template"]["spec"]
    assert {"name": "tokenizers", "persistentVolumeClaim": claim} in pod["volumes"]


def test_hosts_that_may_be_asked_are_named() -> None:
    hosts = "gateway.egress.allowedHosts={models.example,mirror.example:8443}"
    expected = {
        "name": "HEADGATE_GATEWAY_EGRESS_HOSTS",
        "value": "models.example,mirror.example:8443",
    }
    assert expected in render(DEFAULTS, hosts).container("gateway")["env"]


def test_a_url_is_no_host() -> None:
    with pytest.raises(Refused, match="allowedHosts"):
        render(DEFAULTS, "gateway.egress.allowedHosts={https://models.example}")
