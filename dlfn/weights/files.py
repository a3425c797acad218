"""safetensors files: arrays by name, and params and state by tree path."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dlfn.core import InputError
from dlfn.files import replacing
from dlfn.weights.mapping import export_state, import_state
from dlfn.weights.names import Names, To
from dlfn.weights.paths import by_path

__all__ = ["load_metadata", "load_params", "load_safetensors", "save_params", "save_safetensors"]


def save_safetensors(path: str | Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Writes arrays by name to a safetensors file. A reader sees the old file or the whole new one.

    Args:
        path: of the file; its folder is made if need be.
        arrays: numpy or JAX arrays, in any memory layout.
        metadata: strings by name, for the header of the file.

    Raises:
        InputError: on what is no array, a dtype that the format does not have, and a file that cannot be written.
    """
    if not isinstance(arrays, Mapping):
        raise InputError(
            f"save_safetensors: arrays is of type {type(arrays).__name__}, and must be a dictionary of arrays by name; "
            "save_params takes the params of a model"
        )
    try:
        # The format has no strides: an array that is not C-contiguous would be saved in the wrong order, silently.
        content = save({name: np.asarray(array, order="C") for name, array in arrays.items()}, dict(metadata or {}))
        with replacing(Path(path)) as file:
            file.write(content)
    except (SafetensorError, TypeError, AttributeError) as error:
        raise InputError(f"cannot save to {str(path)!r}: {error}") from None
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}") from None


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name.

    Raises:
        InputError: when there is no such file, and when it is damaged or of another format.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(f"{folder}/w.safetensors", {"w": np.arange(6).reshape(2, 3).T}, {"made by": "me"})
    ...     print(load_safetensors(f"{folder}/w.safetensors"), load_metadata(f"{folder}/w.safetensors"))
    {'w': array([[0, 3],
           [1, 4],
           [2, 5]])} {'made by': 'me'}
    """
    with _opened(path) as file:
        return file.get_tensors()


def load_metadata(path: str | Path) -> dict[str, str]:
    """The strings in the header of a safetensors file.

    Raises:
        InputError: as :func:`load_safetensors`.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    if not Path(path).is_file():
        raise InputError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, AttributeError) as error:  # the latter at a dtype that numpy does not have
        raise InputError(f"cannot read {str(path)!r}, which is no safetensors file or damaged: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}") from None


def save_params(path: str | Path, params: Any, state: Any = (), *, metadata: Mapping[str, str] | None = None) -> None:
    """Writes params and state to a safetensors file by tree path: ``params/hidden/w``.

    Raises:
        InputError: as :func:`save_safetensors`.
    """
    save_safetensors(path, export_state(params, state, _own_names(params, state)), metadata)


def load_params(path: str | Path, params_like: Any, state_like: Any = ()) -> tuple[Any, Any]:
    """What :func:`save_params` wrote, in the structures and dtypes of what it is to be like.

    Raises:
        InputError: as :func:`load_safetensors` and :func:`dlfn.weights.import_state`.

    >>> import tempfile, jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Serial(nn.Linear(3), nn.ReLU())
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/model.safetensors", params, state)
    ...     print(*load_safetensors(f"{folder}/model.safetensors"))
    ...     loaded, _ = load_params(f"{folder}/model.safetensors", params, state)
    params/0/b params/0/w
    >>> jax.tree.all(jax.tree.map(jnp.array_equal, params, loaded))
    True
    """
    return import_state(load_safetensors(path), params_like, state_like, _own_names(params_like, state_like))


def _own_names(params: Any, state: Any) -> Names:
    trees = (("params", params), ("state", state))
    return {f"{tree}/{path}": To(path, tree=tree) for tree, values in trees for path in by_path(values)}
