"""The gateway without its surroundings: the data port and everything behind it, and how it drains.

`main` gives it an API server, settings and signals; tests give it a snapshot and pods.
"""

import asyncio
import itertools
import secrets
import time
from typing import Final

import structlog

from headgate_gateway.calls.ask import Backends, Patience
from headgate_gateway.context.prepare import Preparation
from headgate_gateway.context.tokenizers import Load, Tokenizers
from headgate_gateway.context.write_prompt import WritePrompt
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.identity import Identity, identify
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.parse import Parse
from headgate_gateway.edge.server import Edge
from headgate_gateway.explain.explain import explain
from headgate_gateway.explain.explanation import Explanation
from headgate_gateway.explain.ring import Ring
from headgate_gateway.explain.unended import so_far
from headgate_gateway.feedback import Feedback
from headgate_gateway.idempotency.keyed import Idempotency
from headgate_gateway.idempotency.recording import Room
from headgate_gateway.idempotency.store import Store
from headgate_gateway.inference import Inference, Labels
from headgate_gateway.metrics import Metrics
from headgate_gateway.pipeline import Pipeline
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.features import Surroundings
from headgate_gateway.routing.pods import Pods
from headgate_gateway.routing.pools import Speculating
from headgate_gateway.routing.router import Router
from headgate_gateway.routing.set_deadline import SetDeadline
from headgate_gateway.routing.targets import Targets
from headgate_gateway.routing.trial import Ground
from headgate_gateway.safety.input_rules import InputRules
from headgate_gateway.service import Service
from headgate_gateway.snapshots import Snapshots
from headgate_gateway.telemetry import logs
from headgate_gateway.telemetry.in_flight import in_flight
from headgate_gateway.telemetry.setup import Telemetry
from headgate_gateway.teller import Teller

log = structlog.get_logger(__name__)

DRAINING: Final = Refusal(
    Code.GATEWAY_DRAINING, 503, "This gateway stops. Try again.", retry_after=1
)

ANSWERS_BYTES: Final = 64 * 1024 * 1024
"""Memory for answers that are to be remembered, while they are given."""


class Gateway:
    """One data port.

    Args:
        region: name for answers to carry.
        pods: where model servers are found.
        limits: what one client's connection may cost.
        patience: how long model servers may take.
        most: requests at once.
        default_max_tokens: where a client does not say how much to generate.
        telemetry: how it tells what it does.
        keys: where Idempotency-Keys are remembered; None: requests with one are refused.
        answer_bytes: the largest answer that is remembered.
        load_tokenizer: gets models' own tokenizers; None: all input is estimated.
        explanations: keeps requests that have ended; None: as many as usual.
    """

    def __init__(
        self,
        *,
        region: str,
        pods: Pods,
        limits: Limits,
        patience: Patience,
        most: int,
        default_max_tokens: int,
        telemetry: Telemetry | None = None,
        keys: Store | None = None,
        answer_bytes: int = 1024 * 1024,
        load_tokenizer: Load | None = None,
        explanations: Ring | None = None,
    ) -> None:
        telemetry = telemetry or Telemetry()
        # Ids come from a counter: asking the kernel for chance costs a tenth of a request.
        self.process = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self.pods = pods
        self.snapshots = Snapshots()
        self.metrics = Metrics(region, telemetry.conventions)
        self.feedback = Feedback(self.process)
        self.explanations = Ring() if explanations is None else explanations
        clock = time.monotonic  # as the event loop's
        self.idempotency = Idempotency(keys, self.metrics, Room(answer_bytes, ANSWERS_BYTES))
        tokenizers = None if load_tokenizer is None else Tokenizers(load_tokenizer, clock)
        self.preparation = Preparation(default_max_tokens, tokenizers)
        targets = Targets(pods, Speculating(pods, self.metrics.speculation))
        around = Surroundings(region, lambda: len(self.inference.calls) / most)
        stages = (
            Router(targets, around),
            SetDeadline(),
            InputRules(self.metrics),
            WritePrompt(self.preparation),
        )
        self.inference = Inference(
            snapshots=self.snapshots,
            entry=Pipeline((Identity(), Parse()), self.metrics, clock),
            idempotency=self.idempotency,
            pipeline=Pipeline(stages, self.metrics, clock),
            ground=Ground(
                Backends(pods, patience),
                targets,
                self.preparation,
                self.metrics,
                lambda namespace: self.snapshots.tables.space(namespace).objects,
            ),
            sampler=telemetry.sampler,
            teller=Teller(
                self.metrics,
                self.feedback,
                telemetry.tracing,
                telemetry.write,
                self.explanations,
                self.preparation.calibrations,
            ),
            labels=Labels(region),
            most=most,
        )
        doorkeeper = Pipeline((Identity(),), self.metrics, clock)
        service = Service(self.snapshots, self.inference, doorkeeper, self.metrics)
        self.edge = Edge(service, limits, ids=self._name, refused=self._count, admit=self._admit)
        self._show(telemetry)

    async def drain(self, accept_seconds: float, stream_seconds: float) -> None:
        """Stop without cutting a stream.

        For `accept_seconds` new requests are served, because not everybody knows yet, and clients
        are asked to connect anew, elsewhere. Then nobody new; streams get `stream_seconds` to end,
        and what is left then ends with an error that says why.
        """
        log.info("draining", accept_s=accept_seconds, streams_s=stream_seconds)
        self.edge.drain()
        await asyncio.sleep(accept_seconds)
        self.edge.close_listener()
        if not await self.edge.emptied(stream_seconds):
            log.warning("streams ended by the drain", streams=len(self.inference.calls))
            self.inference.stop(DRAINING)
            if not await self.edge.emptied(2.0):
                self.edge.abort()
                await self.edge.emptied(2.0)  # so that all outcomes are told
        await self.idempotency.close()

    def requests_in_flight(self) -> bytes:
        """Report on what is in work, as JSON."""
        return in_flight(self.inference.requests, time.monotonic())

    def explain(self, request_id: str) -> Explanation | str:
        """Explain a request, in work or at its end, or say in a sentence why that cannot be."""
        kept = self.explanations
        if (found := kept.find(request_id, time.monotonic())) is not None:
            return explain(found)
        if (request := self.inference.requests.get(request_id)) is not None:
            return so_far(request, time.monotonic())
        if not request_id.startswith(f"{self.process}-"):
            return f"Request {request_id} is not of this gateway: its ids begin {self.process}-."
        return (
            f"Request {request_id} is not known any more, or never was: of this gateway the last "
            f"{kept.most} requests can be explained, for {kept.seconds:g} s."
        )

    def _name(self) -> str:
        return f"{self.process}-{next(self._numbers):x}"

    def _admit(self, head: Head) -> Refusal | None:
        """Keep no long body in memory for somebody without a key."""
        tables, loaded = self.snapshots.tables, self.snapshots.confirmed
        found = identify(head, tables, loaded=loaded, now=time.time())
        return found if isinstance(found, Refusal) else None

    def _count(self, refusal: Refusal) -> None:
        self.metrics.requests.of(str(refusal.status), refusal.code).add()

    def _show(self, telemetry: Telemetry) -> None:
        metrics, snapshots = self.metrics, self.snapshots
        metrics.log_lines_lost.read = logs.lost
        metrics.traces_exported.read = lambda: telemetry.tracing.exported
        metrics.traces_lost.read = lambda: telemetry.tracing.lost
        metrics.connections.read = lambda: self.edge.connections
        metrics.idempotency_keys_held.read = lambda: self.idempotency.held
        metrics.idempotency_file_bytes.read = lambda: self.idempotency.file_bytes
        metrics.calls_in_flight.read = lambda: len(self.inference.calls)
        metrics.pods_ready.read = lambda: sum(self.pods.counts().values())
        metrics.snapshot_epoch.read = lambda: snapshots.report.epoch
        metrics.snapshot_sequence.read = lambda: snapshots.report.sequence
        metrics.snapshot_kept_objects.read = lambda: len(snapshots.report.kept)
        metrics.snapshot_longest_step_seconds.read = lambda: snapshots.longest_step
