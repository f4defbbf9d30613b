"""The metric families that TensorRT-LLM's C++ backend publishes, by their real names and labels.

Read in its `custom_metrics_reporter.cc`. They appear on Triton's own /metrics.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import triton_python_backend_utils as pb_utils

from simulated_llm.scheduler import Counts
from simulated_llm.settings import Settings

_FAMILIES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "nv_trt_llm_request_metrics": (
        "request_type",
        ("active", "max", "scheduled", "context", "waiting"),
    ),
    "nv_trt_llm_kv_cache_block_metrics": (
        "kv_cache_block_type",
        ("max", "free", "used", "tokens_per", "reused", "fraction"),
    ),
    "nv_trt_llm_inflight_batcher_metrics": (
        "inflight_batcher_specific_metric",
        ("total_context_tokens", "generation_requests", "micro_batch_id", "paused_requests"),
    ),
    "nv_trt_llm_general_metrics": ("general_type", ("timestamp", "iteration_counter")),
}
_BUCKETS: Final = [10.0, 50.0, 100.0, 500.0, 1000.0]  # tokens


class Metrics:
    """One model's gauges and histograms."""

    def __init__(self, model: str, version: str, settings: Settings) -> None:
        self._settings = settings
        self._labels = {"model": model, "version": version}
        # A family that nobody holds takes its metrics with it.
        self._families: list[Any] = []
        self._gauges: dict[tuple[str, str], Any] = {}
        for name, (label, values) in _FAMILIES.items():
            family = self._family(name, pb_utils.MetricFamily.GAUGE)
            for value in values:
                labels = {**self._labels, label: value}
                self._gauges[name, value] = family.Metric(labels=labels)
        self._input = self._histogram("nv_llm_input_token_len", "total_input_tokens")
        self._output = self._histogram("nv_llm_output_token_len", "total_output_tokens")

    def publish(self, counts: Counts) -> None:
        settings = self._settings
        self._set(
            "nv_trt_llm_request_metrics",
            active=counts.scheduled + counts.waiting,
            max=settings.slots,
            scheduled=counts.scheduled,
            context=counts.context,
            waiting=counts.waiting,
        )
        self._set(
            "nv_trt_llm_kv_cache_block_metrics",
            max=settings.kv_blocks,
            free=settings.kv_blocks - counts.blocks_used,
            used=counts.blocks_used,
            tokens_per=settings.tokens_per_block,
            fraction=counts.blocks_used / settings.kv_blocks,
        )
        self._set(
            "nv_trt_llm_inflight_batcher_metrics",
            total_context_tokens=counts.context_tokens,
            generation_requests=counts.scheduled - counts.context,
        )
        self._set(
            "nv_trt_llm_general_metrics",
            timestamp=time.time() * 1e6,
            iteration_counter=counts.iterations,
        )

    def observe(self, input_tokens: int, output_tokens: int) -> None:
        """Count one answered request."""
        self._input.observe(input_tokens)
        self._output.observe(output_tokens)

    def _set(self, family: str, **values: float) -> None:
        for name, value in values.items():
            self._gauges[family, name].set(float(value))

    def _histogram(self, name: str, kind: str) -> Any:
        labels = {**self._labels, "response_metric_type": kind}
        family = self._family(name, pb_utils.MetricFamily.HISTOGRAM)
        return family.Metric(labels=labels, buckets=_BUCKETS)

    def _family(self, name: str, kind: Any) -> Any:
        family = pb_utils.MetricFamily(name=name, description=name, kind=kind)
        self._families.append(family)
        return family
