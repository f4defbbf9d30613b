import base64
import re
from typing import Any

import pytest

from headgate_api.errors import Forbidden, HeadgateError, TerminalError
from headgate_cli.keys import create_key, new_key, why_useless
from headgate_cli.main import main
from headgate_cluster.light import LightCluster
from headgate_kube.client import Client, Page
from headgate_kube.resources import SECRETS, TENANT_QUOTAS, Resource


def test_a_key_is_long_and_needs_no_quoting() -> None:
    assert re.fullmatch(r"hg_[a-z2-7]{32}", new_key())
    assert new_key() != new_key()


@pytest.mark.apiserver
async def test_a_second_entry_joins_the_first_and_a_used_one_is_never_replaced(
    control_plane: LightCluster,
) -> None:
    client = await Client.connect(user_agent="test", kubeconfig=str(control_plane.kubeconfig))
    first = await create_key(client, "default", "cli-keys", "one")
    second = await create_key(client, "default", "cli-keys", "two")

    with pytest.raises(TerminalError, match="has an entry one already"):
        await create_key(client, "default", "cli-keys", "one")
    found = await client.get(SECRETS, "default", "cli-keys")
    await client.close()

    stored = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
    assert {"one": first, "two": second} == stored


class Quotas(Client):
    """An API server with TenantQuotas that name these Secrets, or one that does not list them."""

    def __init__(self, *secrets: str, refusal: HeadgateError | None = None) -> None:
        self.secrets, self.refusal = secrets, refusal

    async def list(self, resource: Resource, namespace: str | None = None, **_: Any) -> Page:
        assert (TENANT_QUOTAS, "chat") == (resource, namespace)
        if self.refusal is not None:
            raise self.refusal
        credentials = [{"apiKeys": {"secretRef": {"name": name}}} for name in self.secrets]
        return [{"spec": {}}, {"spec": {"credentials": credentials}}], "1"


@pytest.mark.parametrize(
    ("quotas", "wanted"),
    [
        (Quotas("other", "mine"), ""),
        (
            Quotas("other"),
            (
                "no TenantQuota of namespace chat names Secret mine: the key works once one does, "
                "in spec.credentials[].apiKeys.secretRef.name"
            ),
        ),
        (
            Quotas(refusal=Forbidden("tenantquotas is forbidden")),
            "could not check that a TenantQuota names Secret chat/mine: tenantquotas is forbidden",
        ),
    ],
    ids=["named", "not named", "may not list"],
)
async def test_a_key_that_lets_nobody_in_yet_is_told(quotas: Client, wanted: str) -> None:
    assert wanted == await why_useless(quotas, "chat", "mine")


@pytest.mark.apiserver
def test_the_command_prints_the_key_alone_and_warns_beside_it(
    control_plane: LightCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    assert 0 == main(["keys", "create", "cli-unused-keys"])
    told = capsys.readouterr()
    assert re.fullmatch(r"hg_[a-z2-7]{32}\n", told.out)
    assert "cli-unused-keys" in told.err  # of quotas it knows nothing where there are no CRDs
