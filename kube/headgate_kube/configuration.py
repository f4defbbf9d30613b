"""Where the API server is and how we prove who we are: the library reads it, we only choose."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import KubeConfigLoader, load_kube_config

from headgate_api.errors import TerminalError

SENSELESS: Final = (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError)
"""What the library raises where a file is not there, is no YAML, or is not shaped as it should."""


async def load(kubeconfig: str | None = None, context: str | None = None) -> Configuration:
    """Read the given kubeconfig, else $KUBECONFIG, else the pod's account, else ~/.kube/config.

    Raises:
        TerminalError: none of them is there, or the one that is does not make sense.
    """
    configuration = Configuration()
    file = kubeconfig or os.environ.get("KUBECONFIG")
    usual = str(Path.home() / ".kube" / "config")
    try:
        if file is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            # Its hook reads the token file again each minute: the kubelet rotates it.
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            return configuration
        loader = await load_kube_config(  # type: ignore[no-untyped-call]
            file or usual,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except SENSELESS as error:
        raise TerminalError(
            f"no way to reach a Kubernetes API server by the kubeconfig {file or usual} "
            f"(set KUBECONFIG to use another one): {error}"
        ) from error
    if hasattr(loader, "exec_plugin_expiry"):
        configuration.refresh_api_key_hook = _ask_plugin_again(loader)  # type: ignore[assignment]
    return configuration


def _ask_plugin_again(loader: KubeConfigLoader) -> Callable[[Configuration], Awaitable[None]]:
    """Make the hook that runs an exec plugin again once its token has expired."""

    async def refresh(configuration: Configuration) -> None:
        await loader.load_from_exec_plugin()  # type: ignore[no-untyped-call]
        configuration.api_key["BearerToken"] = loader.token

    return refresh
