"""The account of the pod that we run in, as the kubelet mounts it."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

HOST: Final = "KUBERNETES_SERVICE_HOST"
PORT: Final = "KUBERNETES_SERVICE_PORT"
FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AGAIN: Final = 60.0  # s; the kubelet rotates the token


class PodAccount:
    """See `headgate_kube.configuration.Settings`. `OSError`: the files are not there."""

    ca_cert_data: str | bytes | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl = True
    disable_strict_ssl_verification = False
    tls_server_name: str | None = None
    proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = None

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Path = FOLDER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        host, port = environment[HOST], environment.get(PORT, "443")
        self.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self.ssl_ca_cert: str | None = str(folder / "ca.crt")
        self._file = folder / "token"
        self._clock = clock
        self._token = self._file.read_text()
        self._read_at = clock()

    async def get_api_key_with_prefix(self, identifier: str, alias: str | None = None) -> str:
        now = self._clock()
        if now >= self._read_at + AGAIN:
            with contextlib.suppress(OSError):  # the last one may still be good
                self._token = self._file.read_text()
            self._read_at = now
        return f"Bearer {self._token.strip()}"
