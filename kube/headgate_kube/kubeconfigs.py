"""Kubeconfigs: the library reads them, we only choose. It takes 24 MiB and comes with its use."""

from collections.abc import Awaitable, Callable
from typing import Final

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigLoader, load_kube_config

from headgate_api.errors import TerminalError

SENSELESS: Final = (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError)
"""What the library raises where a file is not there, is no YAML, or is not shaped as it should."""


async def load(file: str, context: str | None) -> Configuration:
    """Read a kubeconfig. `TerminalError`: it is not there or does not make sense."""
    configuration = Configuration()
    try:
        loader = await load_kube_config(  # type: ignore[no-untyped-call]
            file,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except SENSELESS as error:
        raise TerminalError(
            f"no way to reach a Kubernetes API server by the kubeconfig {file} "
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
