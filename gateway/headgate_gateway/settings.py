"""Settings of a gateway process: read once, before anything listens. Policy lives in snapshots.

Read by msgspec, which is here anyway: pydantic would stay in memory for this alone.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from headgate_api.errors import TerminalError
from headgate_gateway.explain import ring

PREFIX: Final = "HEADGATE_GATEWAY_"
SCHEMES: Final = ("redis", "rediss", "valkey", "valkeys", "unix")

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Secret:
    """A text that no log and no traceback shows."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "***" if self.text else ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str
    """Namespace of the release: the snapshot lies there."""
    region: Annotated[str, Meta(pattern=r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")]
    """Name of this region; answers carry it."""
    watch_namespaces: str = ""
    """Namespaces of models, with commas; `*` for all. Empty: that of the release."""
    port: Port = 8080
    """Data port. Health and metrics are on `admin_port`."""
    tls_dir: Path | None = None
    """Folder with tls.crt and tls.key: the data port speaks TLS. None: plain HTTP."""
    admin_port: Port = 9090
    """Port for /healthz, /readyz and /metrics; never exposed by the Service."""
    snapshot_dir: Path = Path("/var/lib/headgate")
    """Folder for the last good snapshot."""
    drain: Seconds = 600.0
    """Seconds that open streams get after SIGTERM; the pod's grace period is 15 longer."""
    max_requests: Annotated[int, Meta(ge=1, le=100_000)] = 4096
    """Calls to model servers at once. More are refused with 503."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    """Largest request body; more is refused with 413."""
    max_bodies_bytes: Annotated[int, Meta(ge=1024 * 1024, le=64 * 1024**3)] = 128 * 1024 * 1024
    """Request bodies of all clients together; more are refused with 503."""
    default_max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    """Tokens to generate at most where the client does not say."""
    connect_timeout: Seconds = 2.0
    """Seconds for connecting to a model server."""
    heartbeat: Seconds = 15.0
    """Seconds of silence after which a stream gets a comment; a route may say less."""
    access_log: bool = True
    """Log one line per request."""
    explain_requests: Annotated[int, Meta(ge=0, le=100_000)] = ring.MOST
    """Requests that can be explained after their end; 0.4 KB each, as usual. 0: none."""
    explain_seconds: Seconds = ring.SECONDS
    """Seconds after which they cannot."""
    tokenizer_dir: Path = Path("/var/lib/headgate/tokenizers")
    """Folder for models' tokenizers that were fetched."""
    egress_hosts: str = ""
    """Hosts that URLs in resources may name, with commas: https only. Empty: none."""
    trace_endpoint: Annotated[str, Meta(pattern=r"^https?://[^/]+/")] | None = None
    """URL to which an OTLP/HTTP collector takes traces, with its path (`/v1/traces`)."""
    trace_ratio: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.01
    """Share of traces that begin here and are exported."""
    trace_follow: bool = True
    """What a client's `traceparent` says about sampling holds, instead of the ratio."""
    trace_slow: Seconds = 10.0
    """Seconds to the first text from which on a request is exported, sampled or not."""
    idempotency_store: Literal["none", "embedded", "valkey"] = "none"
    """Where Idempotency-Keys are remembered: `none`, `embedded` (one gateway) or `valkey`."""
    idempotency_dir: Path = Path("/var/lib/headgate/idempotency")
    """Folder of the embedded store's file."""
    idempotency_file_bytes: Annotated[int, Meta(ge=1024**2, le=1024**4)] = 512 * 1024 * 1024
    """Largest size of that file. It keeps answers up to 80 % of it, and keys in the rest."""
    idempotency_url: Secret = Secret("")
    """URL of the Valkey or Redis server: `rediss://user:password@host:6379/0`."""
    idempotency_answer_bytes: Annotated[int, Meta(ge=1024, le=16 * 1024**2)] = 1024 * 1024
    """Largest answer that is remembered. Of a larger one only the key is."""

    def __post_init__(self) -> None:
        """Check the URL without telling it: it may hold a password."""
        scheme, mark, _ = self.idempotency_url.text.partition("://")
        if self.idempotency_store == "valkey" and (not mark or scheme not in SCHEMES):
            said = f"store valkey needs the server's URL, with one of {SCHEMES}"
            raise ValueError(f"{PREFIX}IDEMPOTENCY_URL: {said}")

    @property
    def allowed_hosts(self) -> frozenset[str]:
        names = (name.strip().lower() for name in self.egress_hosts.split(","))
        return frozenset(filter(None, names))

    @property
    def namespaces(self) -> tuple[str | None, ...]:
        """Where to watch pods; None stands for everywhere."""
        names = [name.strip() for name in self.watch_namespaces.split(",") if name.strip()]
        if "*" in names:
            return (None,)
        return tuple(dict.fromkeys(names)) or (self.namespace,)


def read_settings(**given: Any) -> Settings:
    """Read them from the environment. `TerminalError` names every variable that is wrong.

    Args:
        given: settings that win over the environment.
    """
    found, wrong = dict(given), []
    for field in msgspec.structs.fields(Settings):
        variable = f"{PREFIX}{field.name.upper()}"
        value = given.get(field.name, os.environ.get(variable))
        try:
            if value is not None:
                found[field.name] = msgspec.convert(value, field.type, strict=False, dec_hook=_make)
            elif field.required:
                wrong.append(f"{variable}: it is required")
        except msgspec.ValidationError as error:
            words = f"; use {' or '.join(get_args(field.type))}" if "enum" in str(error) else ""
            wrong.append(f"{variable}: {error}{words}")
    try:
        if not wrong:
            return Settings(**found)
    except ValueError as error:
        wrong.append(str(error))
    raise TerminalError(f"settings are wrong: {'; '.join(wrong)}")


def _make(kind: type[Path | Secret], text: str) -> Path | Secret:
    """Make what msgspec does not know of a text."""
    return kind(text)
