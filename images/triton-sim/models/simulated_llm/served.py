"""What both served models have in common at Triton's side: loading, requests, errors, the end."""

import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import triton_python_backend_utils as pb_utils

from simulated_llm.answer import Ask, answer
from simulated_llm.engine import Engine, Progress
from simulated_llm.metrics import Metrics
from simulated_llm.settings import model
from simulated_llm.tensors import scalar

TIME_LEFT: Final = "request_timeout_ms"
TIME_OVER: Final = "Request timeout expired"  # as Triton's own scheduler says it
QUEUE_FULL: Final = "Maximum queue size reached, dropping request."


class Wire(ABC):
    """One request in one wire format: its tensors in, a response's tensors out."""

    streaming: bool

    def __init__(self, request: Any) -> None:
        self.request = request

    @abstractmethod
    def ask(self) -> Ask:
        """Say what is wanted.

        Raises:
            ValueError: an input has a wrong shape.
        """

    @abstractmethod
    def outputs(self, progress: Progress, *, last: bool) -> list[Any]:
        """Write the tensors of a response."""


class ServedModel(ABC):
    """Triton's interface. A subclass says where its options lie and how its tensors are named."""

    wire: ClassVar[type[Wire]]

    @abstractmethod
    def options(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the engine's options. `config` is the model's configuration."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load: Triton answers nothing for this model before this returns."""
        config = json.loads(args["model_config"])
        try:
            self._model = model(self.options(config), os.environ)
        except ValueError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        time.sleep(self._model.settings.load_s)
        if self._model.settings.fail_load:
            raise pb_utils.TritonModelException(self._model.settings.fail_load)
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._metrics = Metrics(args["model_name"], args["model_version"], self._model.settings)
        self._engine = Engine(self._model, self._metrics.publish)
        self._engine.start()
        pb_utils.Logger.log_info(f"{args['model_name']} is a simulation: {self._model}")

    def execute(self, requests: Sequence[Any]) -> None:
        """Take requests and return at once, as the real models do: answers come from a thread."""
        for request in requests:
            try:
                self.accept(request)
            except ValueError as error:
                refuse(request.get_response_sender(), str(error), pb_utils.TritonError.INVALID_ARG)

    def finalize(self) -> None:
        """Unload."""
        self._engine.stop()

    def accept(self, request: Any) -> None:
        """Start answering, or refuse; with `stop` end what goes on under the same request id.

        Raises:
            ValueError: the request makes no sense.
        """
        if scalar(request, "stop", default=False):
            self._stop(request)
            return
        wire = self.wire(request)
        if wire.streaming and not self._decoupled:
            raise ValueError("Streaming is only supported in decoupled mode.")
        caller = _Caller(request, wire, self._metrics)
        made = answer(wire.ask(), self._model.drift, self._model.variant)
        if not self._engine.submit(caller, made, _time_left(request)):
            refuse(caller.sender, QUEUE_FULL, pb_utils.TritonError.UNAVAILABLE)

    def _stop(self, request: Any) -> None:
        if not request.request_id():
            raise ValueError("A request id must be provided for request cancellation")
        self._engine.cancel(request.request_id())
        refuse_cancelled(request.get_response_sender())


def refuse(sender: Any, message: str, code: int) -> None:
    """Answer a request with an error. Nothing follows it."""
    error = pb_utils.TritonError(message, code)
    _send(sender, pb_utils.InferenceResponse(error=error), last=True)


def refuse_cancelled(sender: Any) -> None:
    """Answer a request that somebody took back."""
    refuse(sender, "Request cancelled by client", pb_utils.TritonError.CANCELLED)


def _time_left(request: Any) -> float:
    """Read how many seconds the request has. Any field of the body that is no tensor comes so."""
    parameters = json.loads(request.parameters() or "{}")
    return float(parameters.get(TIME_LEFT, math.inf)) / 1000


def _send(sender: Any, response: Any, *, last: bool) -> None:
    flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
    try:
        sender.send(response, flags=flags)
    except pb_utils.TritonModelException as error:
        # One caller's broken stream must not stop the thread that serves them all.
        pb_utils.Logger.log_warn(f"a response was not sent: {error}")


class _Caller:
    """The engine's client: sends what the engine tells."""

    def __init__(self, request: Any, wire: Wire, metrics: Metrics) -> None:
        self.request_id: str = request.request_id()
        self.sender = request.get_response_sender()
        self._wire = wire
        self._metrics = metrics

    def token(self, progress: Progress, *, last: bool) -> None:
        if last:
            self._metrics.observe(progress.answer.input_tokens, progress.sent)
        if last or self._wire.streaming:
            outputs = self._wire.outputs(progress, last=last)
            _send(self.sender, pb_utils.InferenceResponse(output_tensors=outputs), last=last)

    def fail(self, message: str) -> None:
        refuse(self.sender, message, pb_utils.TritonError.INTERNAL)

    def cancel(self) -> None:
        refuse_cancelled(self.sender)

    def expire(self) -> None:
        refuse(self.sender, TIME_OVER, pb_utils.TritonError.UNAVAILABLE)

    def left(self) -> bool:
        return bool(self.sender.is_cancelled())
