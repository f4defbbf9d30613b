"""Links and routes between the host, the router and the regions."""

from headgate_cluster.commands import run, until
from headgate_cluster.errors import ClusterError
from headgate_cluster.layout import Layout, Region
from headgate_cluster.machines import in_network

HOST = "host"
"""The router's end of the host's link."""
UPLINK = "wan0"
"""A region's end of its link."""


def start_router(router: int) -> None:
    run(*in_network(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"))


def connect_host(layout: Layout, router: int) -> None:
    """Give the host a link to the router, and routes to the nodes and pods of every region."""
    link = layout.link
    if not _exists(None, link):
        peer = ("peer", "name", HOST, "netns", str(router))
        _ip(None, "link", "add", "name", link, "type", "veth", *peer)
    _address(None, link, layout.host_ip)
    _address(router, HOST, layout.router_ip)
    for network in layout.networks:
        _ip(None, "route", "replace", network, "via", layout.router_ip, "dev", link)
        # Without the router these addresses must not leave by the default route.
        _ip(None, "route", "replace", "unreachable", network, "metric", "4096")


def connect_region(layout: Layout, region: Region, router: int, pid: int) -> None:
    """Join a region's machine to the router; what is already there stays."""
    if not _exists(pid, UPLINK):
        # `name` and `dev` are spelled out: `ip` reads a bare short name as one of its keywords.
        peer = ("peer", "name", UPLINK, "netns", str(pid))
        ours = ("name", region.name, "netns", str(router))
        _ip(None, "link", "add", *ours, "type", "veth", *peer)
    _address(router, region.name, layout.gateway_ip(region))
    _ip(router, "route", "replace", layout.pods_of(region), "via", layout.node_ip(region))
    _address(pid, UPLINK, layout.node_ip(region))
    _ip(pid, "route", "replace", "default", "via", layout.gateway_ip(region))


def disconnect_host(layout: Layout) -> None:
    """Remove the host's link and routes; the machines' ends go with the machines."""

    def gone() -> bool:
        # The kernel drops links of a dead namespace a little later, and perhaps first.
        if _exists(None, layout.link):
            _ip(None, "link", "del", "dev", layout.link)
        return not _exists(None, layout.link)

    until(gone, f"end of link {layout.link}", seconds=10)
    for network in layout.networks:
        if "unreachable" in _ip(None, "route", "show", "type", "unreachable", network):
            _ip(None, "route", "del", "unreachable", network, "metric", "4096")


def _address(pid: int | None, link: str, address: str) -> None:
    _ip(pid, "addr", "replace", f"{address}/30", "dev", link)
    _ip(pid, "link", "set", "dev", link, "up")


def _exists(pid: int | None, link: str) -> bool:
    try:
        return bool(_ip(pid, "link", "show", "dev", link))
    except ClusterError:
        return False


def _ip(pid: int | None, *argv: str) -> str:
    command = ("ip", *argv)
    return run(*(command if pid is None else in_network(pid, *command)))
