"""A real API server without a machine around it: for tests of what talks to Kubernetes.

etcd and kube-apiserver on loopback, as whoever asks (no root), ready in about 5 s. Without
`controllers` nothing reacts to objects: no garbage collection, no ReplicaSets, no service account
`default`. There are never nodes: `cluster` has them.
"""

import shutil
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from headgate_cluster import pki
from headgate_cluster.commands import run
from headgate_cluster.processes import Server, free_ports

START_SECONDS: Final = 120.0  # ten times what two busy cores need


class LightCluster:
    """etcd + kube-apiserver [+ kube-controller-manager] that live as long as the caller."""

    def __init__(
        self,
        binaries: Mapping[str, Path],
        *,
        controllers: bool = False,
        apiserver_args: Sequence[str] = (),
    ) -> None:
        """Remember what to start.

        Args:
            binaries: name -> path, as `headgate_cluster.binaries.built()` returns it.
            controllers: also run kube-controller-manager.
            apiserver_args: added at the end of the API server's command line.
        """
        self._binaries = binaries
        self._controllers = controllers
        self._apiserver_args = tuple(apiserver_args)
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-light-"))
        self._pki = self._folder / "pki"
        self._servers: list[Server] = []
        self._etcd_client, self._etcd_peer, self._port, self._manager_port = free_ports(4)
        self.kubeconfig = self._folder / "kubeconfig"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start everything and return when the API server is ready."""
        try:
            pki.make(self._pki, "light", ["10.96.0.1"])
            pki.write_kubeconfig(self.kubeconfig, pki.Access("light", self.server, self._pki))
            self._start_etcd()
            self._apiserver = self._start_apiserver()
            if self._controllers:
                self._start_controller_manager()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything at once; nothing of it is worth a goodbye."""
        while self._servers:
            self._servers.pop().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pause(self) -> None:
        """Make the API server hang: connections stay open and get no answer until `resume()`."""
        self._apiserver.freeze()

    def resume(self) -> None:
        self._apiserver.thaw()
        self._until_ready(self._apiserver)

    def restart_apiserver(self) -> None:
        """End the API server, which cuts every watch, and start it on the same port and data."""
        self._servers.remove(self._apiserver)
        self._apiserver.stop(seconds=10)
        self._apiserver = self._start_apiserver()

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return what it prints."""
        kubectl = self._binaries["kubectl"]
        return run(kubectl, f"--kubeconfig={self.kubeconfig}", *args, stdin=stdin)

    def _start(self, name: str, *argv: str | Path) -> Server:
        server = Server.start(name, *argv, folder=self._folder)
        self._servers.append(server)
        return server

    def _start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self._etcd_client}"
        etcd = self._start(
            *("etcd", "etcd", "--data-dir=etcd", "--log-level=warn", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            f"--listen-peer-urls=http://127.0.0.1:{self._etcd_peer}",
        )
        etcd.wait_for(f"{client}/health", seconds=START_SECONDS)

    def _start_apiserver(self) -> Server:
        keys = self._pki
        # Without the controller-manager nobody makes the account that this plugin asks for.
        without = () if self._controllers else ("--disable-admission-plugins=ServiceAccount",)
        server = self._start(
            "kube-apiserver",
            self._binaries["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{self._etcd_client}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # loopback may not be an endpoint of the Service
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            f"--client-ca-file={keys}/ca.crt",
            f"--tls-cert-file={keys}/apiserver.crt",
            f"--tls-private-key-file={keys}/apiserver.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={keys}/sa.pub",
            f"--service-account-signing-key-file={keys}/sa.key",
            *without,
            *self._apiserver_args,
        )
        self._until_ready(server)
        return server

    def _until_ready(self, server: Server) -> None:
        trust = pki.trust(self._pki)
        # The namespace comes a moment after readyz, and everybody wants it first.
        for path in ("readyz", "api/v1/namespaces/default"):
            server.wait_for(f"{self.server}/{path}", seconds=START_SECONDS, trust=trust)

    def _start_controller_manager(self) -> None:
        access = pki.Access("light", self.server, self._pki, "controller-manager")
        pki.write_kubeconfig(self._folder / "controller-manager.conf", access)
        manager = self._start(
            "kube-controller-manager",
            self._binaries["kube-controller-manager"],
            f"--kubeconfig={self._folder}/controller-manager.conf",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._manager_port}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._pki}/sa.key",
            f"--root-ca-file={self._pki}/ca.crt",
        )
        trust = ssl._create_unverified_context()  # noqa: S323 - it signs its own certificate
        url = f"https://127.0.0.1:{self._manager_port}/healthz"
        manager.wait_for(url, seconds=START_SECONDS, trust=trust)
