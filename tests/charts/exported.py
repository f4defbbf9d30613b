"""What the two programs export to Prometheus."""

from prometheus_client import REGISTRY

import headgate_operator.metrics  # noqa: F401 - its metrics register themselves
from headgate_gateway.metrics import Metrics


def metric_names() -> set[str]:
    """Names as they stand in alerts; of histograms without `_bucket`."""
    gateway = Metrics()
    for family in gateway.catalog.families:
        family.of(*family.labels)  # one series of each
    families = (*REGISTRY.collect(), *gateway.collect())
    names = {family.name + "_total" * (family.type == "counter") for family in families}
    return {name for name in names if name.startswith("headgate_")}
