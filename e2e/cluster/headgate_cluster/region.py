"""What runs in a region's machine, and with which files: pure, but for `write_files`."""

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final

from headgate_cluster import pki
from headgate_cluster.files import write
from headgate_cluster.layout import API_PORT, API_SERVICE, DNS_SERVICE, SERVICES, Layout, Region

ETC: Final = "/etc/kubernetes"
KEYS: Final = f"{ETC}/pki"
TEMPLATES: Final = Path(__file__).parent / "templates"
CLIENTS: Final = ("admin", "controller-manager", "scheduler", "kubelet", "proxy", "coredns")


def binds(folder: Path) -> dict[str, Path]:
    """Standard paths inside the machine -> folders of its state: no region needs other paths."""
    return {
        "/var/lib/etcd": folder / "etcd",
        "/var/lib/containerd": folder / "containerd",
        "/var/lib/kubelet": folder / "kubelet",
        "/var/log/pods": folder / "log/pods",
        "/var/log/containers": folder / "log/containers",
        "/etc/kubernetes": folder / "etc",
        "/etc/cni/net.d": folder / "cni",
        # Fresh at every start, as after a reboot:
        "/run/containerd": folder / "run/containerd",
        "/run/netns": folder / "run/netns",
        "/var/lib/cni": folder / "run/cni",
    }


def write_files(layout: Layout, region: Region, *, pause: str, snapshotter: str) -> None:
    """Write a region's certificates, kubeconfigs and configuration files."""
    folder = layout.machine(region.name)
    etc, keys = folder / "etc", folder / "etc" / "pki"
    pki.make(keys, region.node, [layout.node_ip(region), API_SERVICE])
    for client in CLIENTS:
        access = pki.Access(region.name, layout.server(region), keys, client)
        pki.write_kubeconfig(etc / f"{client}.conf", access)
    hosts = [
        f"{layout.node_ip(each)} {each.node} {each.name}.region.test" for each in layout.regions
    ]
    values = {
        "node_ip": layout.node_ip(region),
        "pod_cidr": layout.pods_of(region),
        "dns_ip": DNS_SERVICE,
        "cgroup": layout.cgroup(region),
        "hosts": "\n        ".join(hosts),
        "pause": pause,
        "snapshotter": snapshotter,
    }
    for template in TEMPLATES.iterdir():
        place = folder / "cni" if template.suffix == ".conflist" else etc
        write(place / template.name, Template(template.read_text()).substitute(values))


def commands(
    layout: Layout, region: Region, binaries: Mapping[str, Path]
) -> dict[str, list[str | Path]]:
    """Return every component's command line."""
    address = layout.node_ip(region)
    return {
        "etcd": [
            "etcd",
            "--data-dir=/var/lib/etcd",
            "--unsafe-no-fsync",  # a power cut may lose a test's objects
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
        ],
        "containerd": ["containerd", f"--config={ETC}/containerd.toml"],
        "kube-apiserver": [binaries["kube-apiserver"], *_apiserver(address)],
        "kube-controller-manager": [
            binaries["kube-controller-manager"],
            f"--kubeconfig={ETC}/controller-manager.conf",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--use-service-account-credentials=true",
            *_FAST,
            f"--service-account-private-key-file={KEYS}/sa.key",
            f"--root-ca-file={KEYS}/ca.crt",
            f"--cluster-signing-cert-file={KEYS}/ca.crt",
            f"--cluster-signing-key-file={KEYS}/ca.key",
        ],
        "kube-scheduler": [
            binaries["kube-scheduler"],
            f"--kubeconfig={ETC}/scheduler.conf",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            *_FAST,
        ],
        "kubelet": [
            binaries["kubelet"],
            f"--config={ETC}/kubelet.yaml",
            f"--kubeconfig={ETC}/kubelet.conf",
            f"--hostname-override={region.node}",
            f"--node-ip={address}",
            "--node-labels=" + ",".join(f"{key}={value}" for key, value in labels(region).items()),
        ],
        "kube-proxy": [
            binaries["kube-proxy"],
            f"--config={ETC}/kube-proxy.yaml",
            f"--hostname-override={region.node}",
        ],
        "coredns": [binaries["coredns"], f"-conf={ETC}/Corefile"],
    }


def labels(region: Region) -> dict[str, str]:
    """Return the node's labels: where it is and which GPUs it pretends to have."""
    return {
        "topology.kubernetes.io/region": region.name,
        "topology.kubernetes.io/zone": f"{region.name}-1",
        **region.gpu.labels(),
    }


# The defaults of 20 requests a second would make a test of 1,000 objects wait.
_FAST: Final = ("--kube-api-qps=200", "--kube-api-burst=400")


def _apiserver(address: str) -> list[str | Path]:
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--secure-port={API_PORT}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={address}",
        f"--service-cluster-ip-range={SERVICES}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={KEYS}/ca.crt",
        f"--tls-cert-file={KEYS}/apiserver.crt",
        f"--tls-private-key-file={KEYS}/apiserver.key",
        f"--kubelet-certificate-authority={KEYS}/ca.crt",
        f"--kubelet-client-certificate={KEYS}/apiserver-kubelet.crt",
        f"--kubelet-client-key={KEYS}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={KEYS}/sa.pub",
        f"--service-account-signing-key-file={KEYS}/sa.key",
        f"--requestheader-client-ca-file={KEYS}/front-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={KEYS}/front-proxy.crt",
        f"--proxy-client-key-file={KEYS}/front-proxy.key",
    ]
