"""States of iterators as JSON, and back to the same types: grain's are bytes or dicts, torchdata's have tensors."""

import base64
from typing import Any

import numpy as np

from dlfn.core import InputError

__all__ = ["pack", "unpack"]


def pack(state: Any) -> Any:
    """What JSON can keep of a state, without pickle.

    Args:
        state: dicts, lists, tuples, numbers, text, bytes, arrays and PyTorch tensors.

    Raises:
        InputError: where the state holds anything else.

    >>> import json
    >>> state = {"next": 3, 0: (1.5, b"ab", None), "order": np.arange(2)}
    >>> unpack(json.loads(json.dumps(pack(state))))
    {'next': 3, 0: (1.5, b'ab', None), 'order': array([0, 1])}
    """
    if state is None or type(state) in (bool, int, float, str):
        return state
    if isinstance(state, dict):
        return {"dict": [[pack(key), pack(value)] for key, value in state.items()]}
    if type(state) in (list, tuple):
        return {type(state).__name__: [pack(item) for item in state]}
    if isinstance(state, bytes):
        return {"bytes": base64.b64encode(state).decode()}
    kind = "tensor" if type(state).__module__.partition(".")[0] == "torch" else "array"
    if kind == "tensor" or isinstance(state, (np.ndarray, np.generic)):
        array = np.asarray(state)
        if not array.dtype.hasobject:
            content = base64.b64encode(array.tobytes()).decode()
            return {kind: [array.dtype.str, list(array.shape), content]}
    raise InputError(f"the state of the data holds a {type(state).__name__}, which a checkpoint cannot keep")


def unpack(packed: Any) -> Any:
    """The state that :func:`pack` had."""
    if not isinstance(packed, dict):
        return packed
    ((kind, value),) = packed.items()
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in value}
    if kind in ("list", "tuple"):
        items = [unpack(item) for item in value]
        return items if kind == "list" else tuple(items)
    if kind == "bytes":
        return base64.b64decode(value)
    dtype, shape, content = value
    array = np.frombuffer(base64.b64decode(content), dtype).reshape(shape).copy()
    if kind == "array":
        return array
    import torch  # its loader asks for its tensors

    return torch.from_numpy(array)
