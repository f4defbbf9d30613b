"""TLS on the data port: what is spoken, and how a certificate changes under open connections."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from headgate_api.errors import TerminalError
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.server import Edge
from headgate_gateway.edge.tls import Certificate

from .conftest import until
from .edges import GET, dial, echo, read_answer, serving

AUTHORITY = trustme.CA()


class Secret:
    """A mounted Secret: files behind a link that is replaced in one step, as the kubelet does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)
        self.issue()

    def issue(self) -> bytes:
        """Put a new certificate into it; returns the certificate."""
        leaf = AUTHORITY.issue_cert("gateway.test")
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        self.write(chain, leaf.private_key_pem.bytes())
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    def write(self, chain: bytes, key: bytes) -> None:
        self._versions += 1
        version = self.folder / f"..{self._versions}"
        version.mkdir()
        (version / "tls.crt").write_bytes(chain)
        (version / "tls.key").write_bytes(key)
        link = self.folder / "..next"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path)


@pytest.fixture
def certificate(secret: Secret) -> Certificate:
    return Certificate(secret.folder)


def trusting(**more: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    for name, value in more.items():
        setattr(context, name, value)
    return context


@asynccontextmanager
async def connected(
    edge: Edge, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    tls = context or trusting()
    reader, writer = await dial(edge, ssl=tls, server_hostname="gateway.test")
    yield reader, writer
    writer.transport.abort()


def shown(writer: asyncio.StreamWriter) -> bytes:
    """Return the certificate that the edge showed."""
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return der


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_are_answered_over_tls(
    certificate: Certificate, version: ssl.TLSVersion
) -> None:
    context = trusting(minimum_version=version, maximum_version=version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        serving(tls=certificate.context) as edge,
        connected(edge, context) as (reader, writer),
    ):
        for _ in range(2):
            writer.write(GET)
            assert (200, b"/ ") == await read_answer(reader)
        assert "http/1.1" == writer.get_extra_info("ssl_object").selected_alpn_protocol()


async def test_nothing_older_than_tls_1_2_is_spoken(certificate: Certificate) -> None:
    with pytest.warns(DeprecationWarning, match="TLSVersion.TLSv1_1"):
        old = trusting(
            minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1
        )
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(tls=certificate.context) as edge:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(edge, old):
                pass


async def test_a_new_certificate_is_for_new_connections_and_old_ones_live_on(
    secret: Secret, certificate: Certificate
) -> None:
    async with serving(tls=certificate.context) as edge, connected(edge) as (reader, writer):
        before = shown(writer)
        after = secret.issue()
        certificate.check()
        async with connected(edge) as (new_reader, new_writer):
            new_writer.write(GET)
            assert 200 == (await read_answer(new_reader))[0]
            assert after == shown(new_writer) != before
        writer.write(GET)

        assert 200 == (await read_answer(reader))[0]
    assert "" == certificate.problem


async def test_a_client_that_names_no_server_gets_the_new_certificate_too(
    secret: Secret, certificate: Certificate
) -> None:
    after = secret.issue()
    certificate.check()
    nameless = trusting(check_hostname=False)
    async with serving(tls=certificate.context) as edge:
        _, writer = await dial(edge, ssl=nameless, server_hostname="")

        assert after == shown(writer)
        writer.transport.abort()


async def test_files_that_cannot_be_used_leave_the_old_certificate_in_force_and_are_told(
    secret: Secret, certificate: Certificate
) -> None:
    good = AUTHORITY.issue_cert("gateway.test")
    chain, key = good.cert_chain_pems[0].bytes(), good.private_key_pem.bytes()
    other_key = AUTHORITY.issue_cert("gateway.test").private_key_pem.bytes()
    async with serving(tls=certificate.context) as edge:
        async with connected(edge) as (_, writer):
            before = shown(writer)
        for wrong in ((b"no PEM", key), (chain, b""), (chain, other_key), (b"", b"")):
            secret.write(*wrong)
            with capture_logs() as logs:
                certificate.check()
                certificate.check()
            assert ["new certificate cannot be used, the old one stays"] == [
                line["event"] for line in logs
            ]
            assert certificate.problem
            async with connected(edge) as (_, writer):
                assert before == shown(writer)
        (secret.folder / "..data").unlink()  # the Secret is gone
        certificate.check()
        assert certificate.problem
        after = secret.issue()
        certificate.check()

        assert "" == certificate.problem
        async with connected(edge) as (_, writer):
            assert after == shown(writer)


async def test_the_files_are_looked_at_by_themselves(
    secret: Secret, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate_gateway.edge.tls.PAUSE", 0.001)
    secret.write(b"", b"")
    watching = asyncio.create_task(certificate.watch())
    await until(lambda: certificate.problem != "")
    secret.issue()
    await until(lambda: certificate.problem == "")
    watching.cancel()


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_without_a_certificate_nothing_starts(secret: Secret, missing: str) -> None:
    (secret.folder / missing).unlink()

    with pytest.raises(TerminalError, match="no usable certificate"):
        Certificate(secret.folder)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(secret: Secret) -> None:
    encrypted = (
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        b"DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"
        b"-----END RSA PRIVATE KEY-----\n"
    )
    secret.write((secret.folder / "tls.crt").read_bytes(), encrypted)

    with pytest.raises(TerminalError, match="encrypted"):
        Certificate(secret.folder)


async def test_whoever_speaks_no_tls_is_dropped_in_silence(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tls=certificate.context) as edge:
        reader, writer = await dial(edge)
        writer.write(GET)
        assert b"HTTP" not in await reader.read()
        writer.close()
        async with connected(edge) as (reader, writer):
            writer.write(GET)
            assert 200 == (await read_answer(reader))[0]
    assert [] == caplog.records


async def test_a_handshake_that_does_not_end_is_cut(certificate: Certificate) -> None:
    async with serving(tls=certificate.context, limits=Limits(head_seconds=0.05)) as edge:
        reader, writer = await dial(edge)
        writer.write(b"\x16\x03\x01")

        assert b"" == await reader.read()
        writer.close()


async def test_a_refused_client_can_read_why_although_it_goes_on_sending(
    certificate: Certificate,
) -> None:
    limits = Limits(body_bytes=100, linger_seconds=0.2)
    async with (
        serving(tls=certificate.context, limits=limits) as edge,
        connected(edge) as (reader, writer),
    ):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        writer.write(100_000 * b"a")
        assert 413 == (await read_answer(reader))[0]
        assert b"" == await reader.read()


async def test_a_client_that_leaves_cancels_its_request(certificate: Certificate) -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(wait, tls=certificate.context) as edge:
        async with connected(edge) as (_, writer):
            writer.write(GET)
            await begun.wait()
        await cancelled.wait()


async def test_a_slow_reader_fills_no_memory(certificate: Certificate) -> None:
    sent = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal sent
        exchange.start(200, b"")
        while sent < 50_000_000:
            await exchange.send(10_000 * b"a")
            sent += 10_000
        exchange.finish()

    async with (
        serving(pour, tls=certificate.context) as edge,
        connected(edge) as (reader, writer),
    ):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        settled = -1
        while settled != sent or not settled:
            settled = sent
            for _ in range(1000):
                await asyncio.sleep(0)

        assert settled < 50_000_000
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        got = 0
        while b"0\r\n\r\n" not in (data := await reader.read(65536)):
            got += len(data)
        assert got > 40_000_000


async def test_an_idle_client_is_told_goodbye_and_a_drain_ends(certificate: Certificate) -> None:
    async with serving(echo, tls=certificate.context) as edge, connected(edge) as (reader, writer):
        writer.write(GET)
        await read_answer(reader)
        edge.drain()
        edge.close_listener()
        assert b"" == await reader.read()
        writer.close()
        await edge.emptied()


def test_a_secret_without_a_change_is_not_read_again(
    secret: Secret, certificate: Certificate
) -> None:
    current = certificate._current
    os.utime(secret.folder)  # of the folder, not of the files
    certificate.check()

    assert current is certificate._current
