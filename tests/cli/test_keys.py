import base64
import re

import pytest

from headgate_api.errors import TerminalError
from headgate_cli.keys import create_key, new_key
from headgate_cluster.light import LightCluster
from headgate_kube.client import Client
from headgate_kube.resources import SECRETS


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
