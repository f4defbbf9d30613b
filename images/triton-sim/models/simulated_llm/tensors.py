"""Reading a request's tensors and writing a response's."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


def scalar(request: Any, name: str, default: Any = None) -> Any:
    """Return the only element of an input as Python has it, or `default` where it was not sent.

    Raises:
        ValueError: it has another number of elements.
    """
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    array = tensor.as_numpy()
    if array.size != 1:
        raise ValueError(f"{name} has {array.size} elements; it must have one")
    value = array.item()
    return value.decode() if isinstance(value, bytes) else value


def required(request: Any, name: str) -> Any:
    """Return the only element of an input.

    Raises:
        ValueError: it was not sent, or has another number of elements.
    """
    value = scalar(request, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def strings(request: Any, name: str) -> tuple[str, ...]:
    """Return an input of strings, without the empty ones."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return ()
    return tuple(value.decode() for value in tensor.as_numpy().reshape(-1) if value)


def text(name: str, value: object) -> Any:
    """Write one string."""
    return pb_utils.Tensor(name, np.array([str(value).encode()], dtype=np.object_))


def number(name: str, value: float, kind: type[np.generic]) -> Any:
    """Write one number of the type that the model's configuration declares."""
    return pb_utils.Tensor(name, np.array([value], dtype=kind))
