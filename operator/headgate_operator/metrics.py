"""Every metric of the operator, in one place: names are an interface."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ENDS: Final = ("success", "requeue_after", "unavailable", "terminal", "bug")
PASSES: Final = Counter("headgate_reconcile_total", "Passes by end.", ["controller", "result"])
PASS_SECONDS: Final = Histogram(
    "headgate_reconcile_duration_seconds",
    "How long a pass took, with its reads and writes.",
    ["controller"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
)
QUEUE_DEPTH: Final = Gauge(
    "headgate_workqueue_depth", "Objects that wait for a worker.", ["controller"]
)
QUEUE_ADDS: Final = Counter(
    "headgate_workqueue_adds_total", "Objects added to the queue.", ["controller"]
)
QUEUE_RETRIES: Final = Counter(
    "headgate_workqueue_retries_total", "Passes put off after a failure.", ["controller"]
)
LEADER: Final = Gauge("headgate_leader", "1 while this process leads.")
WRITES: Final = Counter("headgate_writes_total", "Writes to the API server.", ["kind", "verb"])
EVENTS: Final = Counter("headgate_events_total", "Events by what became of them.", ["result"])

SNAPSHOT_EPOCH: Final = Gauge("headgate_snapshot_epoch", "Epoch of the newest snapshot.")
SNAPSHOT_SEQUENCE: Final = Gauge("headgate_snapshot_sequence", "Its sequence.")
SNAPSHOT_ENTRIES: Final = Gauge("headgate_snapshot_entries", "Objects in it.", ["kind"])
SNAPSHOT_SHARDS: Final = Gauge("headgate_snapshot_shards", "ConfigMaps that it is made of.")
SNAPSHOT_SECONDS: Final = Histogram(
    "headgate_snapshot_publish_duration_seconds",
    "From the first change in a batch to its pointer.",
    buckets=(0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
SNAPSHOT_FAILURES: Final = Counter(
    "headgate_snapshot_publish_failures_total", "Tries to write a snapshot that failed."
)

GATEWAYS_READY: Final = Gauge("headgate_gateways_ready", "Gateways that are Ready.")
GATEWAYS_BEHIND: Final = Gauge(
    "headgate_gateways_behind", "Ready gateways without the newest snapshot for over 10 s."
)
PROBES: Final = Counter("headgate_probes_total", "One-token probes by result.", ["result"])

for _result in ("created", "counted", "dropped", "failed"):
    EVENTS.labels(_result)
for _result in ("answered", "failed"):
    PROBES.labels(_result)
