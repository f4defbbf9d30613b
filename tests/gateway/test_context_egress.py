"""The way out for URLs that stand in resources."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator

import pytest

from headgate_api.errors import TerminalError, Unavailable
from headgate_gateway.context.egress import Address, Egress, public

from .https_host import Host, https_host


@pytest.fixture
def host() -> Iterator[Host]:
    with https_host() as running:
        yield running


def test_public_addresses_may_be_asked() -> None:
    assert all(public(ipaddress.ip_address(a)) for a in ("93.184.215.14", "2606:4700::1111"))


def test_a_file_is_fetched_from_a_host_that_is_allowed(host: Host) -> None:
    assert b"content" == host.fetch()
    assert ["/a/b?c=d"] == host.paths


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://models.example/a", "only https"),
        ("file:///etc/passwd", "only https"),
        ("https://other.example/a", "not among the hosts"),
        ("https://models.example:444/a", "not among the hosts"),
        ("https://models.example@other.example/a", "not among the hosts"),
        ("https://user@models.example/a", "not among the hosts"),
        ("https://[::1/a", "no URL"),
        ("https://models.example:port/a", "no URL"),
    ],
)
def test_no_other_url_is_asked_for(url: str, says: str) -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(TerminalError, match=says):
        Egress({"models.example"}, look_up=nobody).fetch(url, 10)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "::1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "0.0.0.1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "224.0.0.1"),
        *("64:ff9b::a00:1", "2002:a00:1::1", "ff02::1", "::"),
    ],
)
def test_no_address_of_the_clusters_own_is_connected_to(address: str) -> None:
    egress = Egress({"models.example"}, look_up=lambda host, port: ["93.184.215.14", address])
    with pytest.raises(TerminalError, match="which is not public"):
        egress.fetch("https://models.example/a", 10)


def test_the_address_that_was_checked_is_the_one_that_is_asked(host: Host) -> None:
    """A name may mean another address a moment later."""
    checked: list[Address] = []
    answers = iter([["127.0.0.1"]])

    def reachable(address: Address) -> bool:
        checked.append(address)
        return True

    host.fetch(reachable=reachable, look_up=lambda host, port: next(answers))
    assert ["127.0.0.1"] == list(map(str, checked))


def test_redirects_are_not_followed(host: Host) -> None:
    host.status, host.headers = 302, {"location": f"https://{host.name}/elsewhere"}
    with pytest.raises(TerminalError, match="answers 302"):
        host.fetch()
    assert 1 == len(host.paths)


def test_what_is_too_long_is_not_read_on(host: Host) -> None:
    with pytest.raises(TerminalError, match="longer than 6 bytes"):
        host.fetch(most=6)
    assert b"content" == host.fetch(most=7)


def test_half_a_file_is_no_file(host: Host) -> None:
    host.length = 100
    with pytest.raises(Unavailable):
        host.fetch(seconds=1)


def test_a_host_without_a_good_certificate_is_not_believed(host: Host) -> None:
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        host.fetch(tls=ssl.create_default_context())


def test_a_host_that_says_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        egress = Egress(
            {f"models.example:{port}"},
            reachable=lambda _: True,
            look_up=lambda host, port: ["127.0.0.1"],
            seconds=0.05,
        )
        with pytest.raises(Unavailable):
            egress.fetch(f"https://models.example:{port}/", 10)


def test_a_host_that_is_not_there_is_tried_another_time() -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such host")

    with pytest.raises(Unavailable, match="no such host"):
        Egress({"models.example"}, look_up=nowhere).fetch("https://models.example/", 10)
