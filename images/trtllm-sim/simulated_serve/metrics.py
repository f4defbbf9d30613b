"""The metrics that `trtllm-serve` publishes, by their names and labels there.

They are read in tensorrt_llm/metrics/collector.py. Prometheus' are on /prometheus/metrics, and only
with `return_perf_metrics`; those of the queue only with `enable_iter_perf_stats`, too. /metrics
holds JSON.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from simulated_llm.engine import Progress
from simulated_llm.scheduler import Counts
from simulated_llm.settings import Settings

LABELS: Final = {"model_name": "undefined", "engine_type": "undefined"}
_GAUGES: Final = (
    *("num_requests_running", "num_requests_waiting", "num_scheduled_requests"),
    *("num_context_requests", "num_generation_requests", "num_paused_requests"),
    *("max_num_active_requests", "kv_cache_utilization", "kv_cache_hit_rate"),
    *("kv_cache_max_blocks", "kv_cache_free_blocks", "kv_cache_used_blocks"),
    "kv_cache_tokens_per_block",
)
_SECONDS: Final = (
    *("e2e_request_latency_seconds", "time_to_first_token_seconds"),
    *("time_per_output_token_seconds", "request_queue_time_seconds"),
)
_COUNTERS: Final = (
    *("prompt_tokens_total", "generation_tokens_total", "prompt_cached_tokens_total"),
    *("spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total"),
)


class Metrics:
    """All of one server."""

    def __init__(self, settings: Settings, engine: Mapping[str, Any]) -> None:
        self._settings = settings
        self.published = bool(engine.get("return_perf_metrics"))
        self._queue = self.published and bool(engine.get("enable_iter_perf_stats"))
        self._registry = CollectorRegistry()
        self._gauges = {name: self._made(Gauge, name) for name in _GAUGES} if self._queue else {}
        self._seconds = {name: self._made(Histogram, name) for name in _SECONDS}
        self._counters = {name: self._made(Counter, name) for name in _COUNTERS}
        self._success = Counter(
            "trtllm_request_success_total",
            "Requests that were answered.",
            (*LABELS, "finished_reason"),
            registry=self._registry,
        )
        self._counts = Counts(0, 0, 0, 0, 0, 0)
        self._read = self._cached = 0

    def publish(self, counts: Counts) -> None:
        """Take in how the engine does. Its thread calls this."""
        settings, self._counts = self._settings, counts
        values = {
            "num_requests_running": counts.scheduled,
            "num_requests_waiting": counts.waiting,
            "num_scheduled_requests": counts.scheduled,
            "num_context_requests": counts.context,
            "num_generation_requests": counts.scheduled - counts.context,
            "max_num_active_requests": settings.slots,
            "kv_cache_utilization": counts.blocks_used / settings.kv_blocks,
            "kv_cache_hit_rate": self._cached / self._read if self._read else 0.0,
            "kv_cache_max_blocks": settings.kv_blocks,
            "kv_cache_free_blocks": settings.kv_blocks - counts.blocks_used,
            "kv_cache_used_blocks": counts.blocks_used,
            "kv_cache_tokens_per_block": settings.tokens_per_block,
        }
        for name, gauge in self._gauges.items():
            gauge.set(values.get(name, 0))

    def observe(self, progress: Progress) -> None:
        """Count an answered request."""
        answer, sent = progress.answer, progress.sent
        self._read += answer.input_tokens
        self._cached += answer.cached_tokens
        self._success.labels(*LABELS.values(), answer.finish_reason).inc()
        self._counters["prompt_tokens_total"].inc(answer.input_tokens)
        self._counters["generation_tokens_total"].inc(sent)
        self._counters["prompt_cached_tokens_total"].inc(answer.cached_tokens)
        self._counters["spec_decode_num_draft_tokens_total"].inc(progress.drafted)
        self._counters["spec_decode_num_accepted_tokens_total"].inc(progress.accepted)
        began, first, last = progress.arrived, progress.first_token, progress.last_token
        self._seconds["e2e_request_latency_seconds"].observe(last - began)
        self._seconds["time_to_first_token_seconds"].observe(first - began)
        self._seconds["request_queue_time_seconds"].observe(progress.scheduled - began)
        if sent > 1:
            self._seconds["time_per_output_token_seconds"].observe((last - first) / (sent - 1))

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def iteration(self) -> list[dict[str, Any]]:
        """The last iteration, as /metrics has it."""
        counts, settings = self._counts, self._settings
        return [
            {
                "iter": counts.iterations,
                "timestamp": time.strftime("%m-%d-%Y %H:%M:%S"),
                "numActiveRequests": counts.scheduled,
                "numQueuedRequests": counts.waiting,
                "maxNumActiveRequests": settings.slots,
                "kvCacheStats": {
                    "maxNumBlocks": settings.kv_blocks,
                    "freeNumBlocks": settings.kv_blocks - counts.blocks_used,
                    "usedNumBlocks": counts.blocks_used,
                    "tokensPerBlock": settings.tokens_per_block,
                },
            }
        ]

    def _made(self, kind: type[Any], name: str) -> Any:
        text = name.replace("_", " ")
        return kind(f"trtllm_{name}", text, tuple(LABELS), registry=self._registry).labels(
            *LABELS.values()
        )
