"""Where the API server is and how we prove who we are."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from headgate_api.errors import TerminalError
from headgate_kube.account import HOST, PodAccount


class Settings(Protocol):
    """What a client must know. Names are those of the library's `Configuration`, which is one."""

    host: str
    ssl_ca_cert: str | None
    ca_cert_data: str | bytes | None
    cert_file: str | None
    key_file: str | None
    verify_ssl: bool
    disable_strict_ssl_verification: bool
    tls_server_name: str | None
    proxy: str | None
    proxy_headers: Mapping[str, str] | None

    async def get_api_key_with_prefix(
        self, identifier: str, alias: str | None = None
    ) -> str | None:
        """Give the `Authorization` of a request, for the identifier `BearerToken`."""


async def load(kubeconfig: str | None = None, context: str | None = None) -> Settings:
    """Read the given kubeconfig, else $KUBECONFIG, else the pod's account, else ~/.kube/config.

    Raises:
        TerminalError: none of them is there, or the one that is does not make sense.
    """
    file = kubeconfig or os.environ.get("KUBECONFIG")
    if file is None and context is None and HOST in os.environ:
        try:
            return PodAccount(os.environ)
        except OSError as error:
            raise TerminalError(f"the pod's account cannot be read: {error}") from error
    # Only who has such a file pays for the library that reads it: 24 MiB.
    from headgate_kube import kubeconfigs  # noqa: PLC0415

    return await kubeconfigs.load(file or str(Path.home() / ".kube" / "config"), context)


def tls(settings: Settings) -> ssl.SSLContext:
    """Prepare connections. `OSError`: a certificate or a key cannot be read."""
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert, cadata=settings.ca_cert_data)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
