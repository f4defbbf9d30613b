"""`make bench-control`: the control plane on a light cluster (real kube-apiserver, no pods).

First ModelDeployments: from create to status, the operator at rest, its memory. Then, with 3
gateways and many tenants: from an applied TenantQuota to the moment when the last gateway takes
its key, and how long a gateway's event loop keeps requests waiting while it swaps snapshots.
"""

import argparse
import asyncio

from bench.control_ground import ground
from bench.control_models import models
from bench.control_tenants import tenants
from bench.report import report


async def run(model_count: int, tenant_count: int, samples: int) -> None:
    async with ground() as bench:
        figures = await models(bench, model_count)
        figures += await tenants(bench, tenant_count, samples)
    report("control", figures, models=model_count, tenants=tenant_count, samples=samples)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=int, default=1000, help="ModelDeployments (1000)")
    parser.add_argument("--tenants", type=int, default=10_000, help="TenantQuotas (10000)")
    parser.add_argument("--samples", type=int, default=100, help="tenants added singly (100)")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.models, arguments.tenants, arguments.samples))


if __name__ == "__main__":
    main()
