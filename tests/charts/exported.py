"""What the two programs export to Prometheus."""

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

import headgate_operator.metrics  # noqa: F401 - its metrics register themselves
from headgate_gateway.metrics import Metrics


def metric_names() -> set[str]:
    """Names as they stand in alerts; of histograms without `_bucket`."""
    gateway = Metrics()
    for family in gateway.catalog.families:
        family.of(*family.labels)  # one series of each
    families = (
        *REGISTRY.collect(),
        *text_string_to_metric_families(gateway.exposition().decode()),
    )
    names = {family.name + "_total" * (family.type == "counter") for family in families}
    return {name for name in names if name.startswith("headgate_")}
