"""TLS on the data port, with a certificate that may change while clients are connected.

The files are looked at now and then; a Secret that is mounted changes by itself. A new certificate
is for new connections: those that exist keep the one that they began with. Files that cannot be
used change nothing: an older certificate is better than none.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

from headgate_api.errors import TerminalError

log = structlog.get_logger(__name__)

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
PAUSE: Final = 10.0  # s from one look to the next


class Certificate:
    """The certificate in force.

    Args:
        folder: has `tls.crt` (with intermediate certificates) and `tls.key`, both PEM.

    Raises:
        TerminalError: there is no certificate to begin with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._stamp()
        try:
            self.context = _context(folder)
        except (OSError, ValueError) as error:
            raise TerminalError(f"no usable certificate in {folder}: {error}") from error
        self.context.sni_callback = self._choose
        self._current = self.context
        self.problem = ""
        """Why the newest files are not in force; empty: they are."""

    def check(self) -> None:
        """Take over the files if they have changed."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._current = _context(self._folder)
        except (OSError, ValueError) as error:
            self.problem = str(error)
            log.warning("new certificate cannot be used, the old one stays", error=self.problem)
        else:
            self.problem = ""
            log.info("new certificate in force")

    async def watch(self) -> None:
        """Check for ever."""
        while True:
            await asyncio.sleep(PAUSE)
            self.check()

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        """Use the newest certificate. Called in every handshake, whether it names a server or not.

        The listener's own context cannot be changed in one step: between a new certificate and
        its key it would have neither.
        """
        connection.context = self._current

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Tell files from other files, without reading them."""
        return tuple(_stamp(self._folder / name) for name in (CERTIFICATE, KEY))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _context(folder: Path) -> ssl.SSLContext:
    """Build a context of today's defaults. Clients are known by API keys, not by certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY, password=_no_password)
    return context


def _no_password() -> str:
    """Fail where the library would ask the terminal."""
    raise ValueError("the key is encrypted")
