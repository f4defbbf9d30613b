"""The one-token probe of any model server: which dialect, by the pod's own label."""

from headgate_api.labels import RUNTIME
from headgate_controllers.contract import Manifest
from headgate_operator import openai, triton


async def probe(pod: Manifest) -> None:
    """Get one token from the pod. `Unavailable`: there was none, and the message says why."""
    if pod["metadata"]["labels"].get(RUNTIME) == "trtllm-serve":
        await openai.probe(pod)
    else:
        await triton.probe(pod)
