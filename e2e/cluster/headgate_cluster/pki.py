"""An authority for each control plane, the certificates that it signs, and kubeconfigs."""

import base64
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from headgate_cluster.commands import run
from headgate_cluster.files import write

ADMIN: Final = "admin"

CLIENTS: Final[Mapping[str, tuple[str, str]]] = {
    ADMIN: ("headgate-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "coredns": ("system:coredns", ""),
    "apiserver-kubelet": ("apiserver-kubelet-client", "system:masters"),
}
"""File name -> common name (the user), organization (the group)."""

_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_DAYS: Final = ("-days", "3650")


def make(folder: Path, node: str, addresses: Sequence[str]) -> None:
    """Make everything that one control plane with one node needs; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _authority(folder, "ca")
    # Aggregated API servers trust this one; with `ca` any client could pose as anybody there.
    _authority(folder, "front-ca")
    _service_account_key(folder)
    in_cluster = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    names = (*in_cluster, "kubernetes.default.svc.cluster.local", "localhost", node)
    reached_as = ",".join(
        [f"DNS:{name}" for name in names] + [f"IP:{ip}" for ip in (*addresses, "127.0.0.1")]
    )
    as_node = f"/O=system:nodes/CN=system:node:{node}"
    _certificate(folder, "apiserver", "/CN=kube-apiserver", "serverAuth", reached_as)
    _certificate(folder, "kubelet-server", as_node, "serverAuth", reached_as)
    _certificate(folder, "kubelet", as_node, "clientAuth")
    _certificate(folder, "front-proxy", "/CN=front-proxy-client", "clientAuth", by="front-ca")
    for name, (user, group) in CLIENTS.items():
        subject = f"/O={group}/CN={user}" if group else f"/CN={user}"
        _certificate(folder, name, subject, "clientAuth")


@dataclass(frozen=True, slots=True)
class Access:
    """How one client reaches one API server: a context of a kubeconfig."""

    context: str
    server: str
    pki: Path
    client: str = ADMIN

    def user(self) -> dict[str, str]:
        return {
            "client-certificate-data": _encoded(self.pki / f"{self.client}.crt"),
            "client-key-data": _encoded(self.pki / f"{self.client}.key"),
        }


def write_kubeconfig(path: Path, *accesses: Access) -> None:
    """Write a kubeconfig with a context for each access; the first one is current."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": accesses[0].context,
        "clusters": [
            {
                "name": access.context,
                "cluster": {
                    "server": access.server,
                    "certificate-authority-data": _encoded(access.pki / "ca.crt"),
                },
            }
            for access in accesses
        ],
        "users": [
            {"name": f"{access.client}@{access.context}", "user": access.user()}
            for access in accesses
        ],
        "contexts": [
            {
                "name": access.context,
                "context": {
                    "cluster": access.context,
                    "user": f"{access.client}@{access.context}",
                },
            }
            for access in accesses
        ],
    }
    write(path, yaml.safe_dump(document), 0o600)


def trust(folder: Path) -> ssl.SSLContext:
    """Return what an administrator's HTTPS client needs."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / f"{ADMIN}.crt", folder / f"{ADMIN}.key")
    return context


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _authority(folder: Path, name: str) -> None:
    certificate = folder / f"{name}.crt"
    if certificate.exists():
        return
    half = folder / f"{name}.half"
    run(
        *("openssl", "req", "-x509", *_NEW_KEY, *_DAYS, "-subj", f"/CN=headgate-{name}"),
        *("-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", folder / f"{name}.key", "-out", half),
    )
    half.rename(certificate)  # last, so that a certificate that exists always fits its key


def _certificate(
    folder: Path, name: str, subject: str, usage: str, reached_as: str = "", *, by: str = "ca"
) -> None:
    certificate = folder / f"{name}.crt"
    if certificate.exists():
        return
    extensions, request, half = (folder / f"{name}.{end}" for end in ("ext", "csr", "half"))
    lines = [
        "basicConstraints=CA:FALSE",
        "keyUsage=digitalSignature,keyEncipherment",
        f"extendedKeyUsage={usage}",
        *([f"subjectAltName={reached_as}"] if reached_as else []),
    ]
    write(extensions, "\n".join(lines) + "\n")
    run(
        *("openssl", "req", "-new", *_NEW_KEY, "-subj", subject),
        *("-keyout", folder / f"{name}.key", "-out", request),
    )
    run(
        *("openssl", "x509", "-req", "-in", request, *_DAYS, "-extfile", extensions, "-out", half),
        *("-CA", folder / f"{by}.crt", "-CAkey", folder / f"{by}.key", "-CAcreateserial"),
    )
    half.rename(certificate)
    extensions.unlink()
    request.unlink()


def _service_account_key(folder: Path) -> None:
    public = folder / "sa.pub"
    if public.exists():
        return
    key, half = folder / "sa.key", folder / "sa.half"
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    run("openssl", "ec", "-in", key, "-pubout", "-out", half)
    half.rename(public)
