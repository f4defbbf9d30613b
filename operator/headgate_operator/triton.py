"""The one-token probe of a Triton model server, over gRPC as its streams need."""

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from grpc.aio import AioRpcError  # type: ignore[import-untyped]
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from headgate_api.errors import Unavailable
from headgate_api.labels import GRPC_PORT
from headgate_controllers.contract import Manifest

PROMPT: Final = np.array([b"Hello"], dtype=np.object_)
ONE: Final = np.array([1], dtype=np.int32)
STREAM: Final = np.array([True])
INPUTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "tensorrt_llm": {
            "text_input": PROMPT,
            "sampling_param_max_tokens": ONE,
            "streaming": STREAM,
        },
        "ensemble": {"text_input": PROMPT, "max_tokens": ONE, "stream": STREAM},
    }
)
"""By the name of the served model: the tensors that ask for one token. The name tells the runtime:
`tensorrt_llm` is llmapi's, `ensemble` that of model repositories with the ensemble's field names.
"""


async def probe(pod: Manifest, *, port: int = GRPC_PORT) -> None:
    """Get one token from the pod.

    Raises:
        Unavailable: there was none; the message is the server's own, where it gave one.
    """
    client = InferenceServerClient(f"{pod['status']['podIP']}:{port}")
    try:
        for model, inputs in INPUTS.items():
            if await client.is_model_ready(model):
                await _one_token(client, model, inputs)
                return
    except (InferenceServerException, AioRpcError) as error:
        raise Unavailable(f"the model server answered: {error}") from error
    finally:
        await client.close()
    raise Unavailable(f"the model server has none of the models {', '.join(INPUTS)} ready")


async def _one_token(client: Any, model: str, inputs: Mapping[str, Any]) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": model, "inputs": [_tensor(*pair) for pair in inputs.items()]}

    answered = False
    # To the end of the stream: Triton 2.51 keeps a request whose stream is cancelled, and waits
    # for it until its exit timeout when the pod is stopped (seen).
    async for result, error in client.stream_infer(requests()):
        if error is not None:
            raise error
        answered = answered or result is not None
    if not answered:
        raise Unavailable("the model server ended the stream without a token")


def _tensor(name: str, value: Any) -> Any:
    tensor = InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor
