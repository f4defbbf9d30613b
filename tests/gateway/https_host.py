"""A host that speaks TLS, for whoever fetches from one."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

from headgate_gateway.context.egress import Egress


class Host:
    """A host on loopback with a name and a certificate, and a client's way to it."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {}, b"content"
        self.length: int | None = None
        self.paths: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.paths.append(self.path)
                self.send_response(host.status)
                for name, value in host.headers.items():
                    self.send_header(name, value)
                length = len(host.body) if host.length is None else host.length
                self.send_header("content-length", str(length))
                self.end_headers()
                self.wfile.write(host.body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        authority = trustme.CA()
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("models.example").configure_cert(theirs)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = theirs.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def name(self) -> str:
        return f"models.example:{self.port}"

    def egress(self, **more: Any) -> Egress:
        told: dict[str, Any] = {
            "hosts": {self.name},
            "reachable": lambda _: True,
            "look_up": lambda host, port: ["127.0.0.1"],
            "tls": self.context,
        }
        return Egress(**told | more)

    def fetch(self, path: str = "/a/b?c=d", most: int = 1000, **more: Any) -> bytes:
        return self.egress(**more).fetch(f"https://{self.name}{path}", most)

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@contextmanager
def https_host() -> Iterator[Host]:
    running = Host()
    try:
        yield running
    finally:
        running.close()
