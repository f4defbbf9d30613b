"""Settings of an operator process: read once, before anything starts. Policy lives in objects."""

import os
import socket
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="HEADGATE_OPERATOR_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    namespace: Annotated[str, Field(min_length=1)]
    """The release's namespace: the Lease and the snapshot lie there, and the gateways run there."""
    region: Annotated[str, Field(min_length=1)]
    """Name of this cluster in `spec.placement.regions`."""
    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces with objects of ours, comma-separated. `*`: all; empty: the release's own."""
    runtime_image: Annotated[str, Field(min_length=1)]
    """Image with Triton of model pods whose ModelDeployment names none."""
    trtllm_serve_image: Annotated[str, Field(min_length=1)]
    """The same for runtime trtllm-serve."""
    owner: str | None = None
    """A ConfigMap of the chart that owns snapshot and Lease: uninstalling takes them along."""
    kubeconfig: Path | None = None
    """Instead of $KUBECONFIG or the pod's service account."""

    host: str = "0.0.0.0"  # noqa: S104 - the kubelet and Prometheus come from outside the pod
    """Address of /metrics, /healthz and /readyz."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Their port."""
    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Who we are in the Lease: the pod's name, and the process id, which tells restarts apart."""
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Passes at the same time, for each kind."""

    lease: str = "headgate-operator"
    """Name of the Lease that elects the leader."""
    lease_duration: Seconds = 15.0
    """A leader that was not heard of for so many seconds is replaced."""
    renew_deadline: Seconds = 10.0
    """A leader that could not renew for so many seconds stops. Less than `lease_duration`."""
    retry_period: Seconds = 2.0
    """Seconds between two tries to get or to renew the Lease."""

    gateway_url: str | None = None
    """Base URL of the gateways' Service for OpenAI clients in this cluster, as status.url tells."""
    gateway_port: Annotated[int, Field(ge=1, le=65535)] = 9090
    """Admin port of the gateways."""
    gateway_token: Path = Path("/var/run/secrets/headgate.dev/gateway/token")
    """File with the token that we show to gateways, good for nobody else: any pod with a gateway's
    labels gets to see it. Read again for every round, as it rotates."""

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        if isinstance(given, str):
            return tuple(filter(None, (name.strip() for name in given.split(","))))
        return given

    @model_validator(mode="after")
    def _deadlines_leave_room(self) -> Self:
        if not self.retry_period < self.renew_deadline < self.lease_duration:
            raise ValueError(
                "retry_period < renew_deadline < lease_duration must hold, so that a leader stops "
                f"before another one starts: {self.retry_period} < {self.renew_deadline} < "
                f"{self.lease_duration} does not"
            )
        return self

    @property
    def namespaces(self) -> tuple[str, ...] | None:
        """Where to look for objects. None: everywhere."""
        if "*" in self.watch_namespaces:
            return None
        return self.watch_namespaces or (self.namespace,)
