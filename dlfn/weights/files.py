"""safetensors files: arrays by name, and params and state by tree path."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from dlfn.core import InputError
from dlfn.files import replacing
from dlfn.weights.mapping import export_state, import_state
from dlfn.weights.names import Names, To
from dlfn.weights.paths import by_path
from dlfn.weights.reading import Stored
from dlfn.weights.shards import opened

__all__ = ["load_metadata", "load_params", "load_safetensors", "open_safetensors", "save_params", "save_safetensors"]


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


@contextlib.contextmanager
def open_safetensors(path: str | Path) -> Iterator[Stored]:
    """The arrays of a safetensors file by name, each of which is read from it when it is asked for: a model on its way
    into params is in memory once and not twice.

    Args:
        path: of a file; of a folder with ``model.safetensors``, or with ``model.safetensors.index.json``, which says
            what is in which of several files; or of such an index.

    Raises:
        InputError: when there is no such file, when it is damaged or of another format, and when a file of several is
            missing, holds other arrays than the index says, or is not in the folder of the index. All headers are
            checked before the first array is read.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(f"{folder}/model.safetensors", {"w": np.arange(6), "b": np.zeros(2)})
    ...     with open_safetensors(folder) as arrays:
    ...         print(sorted(arrays), arrays["w"])
    ['b', 'w'] [0 1 2 3 4 5]
    """
    with opened(Path(path)) as arrays:
        yield arrays


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, or of the files of a folder.

    Args:
        path: as for :func:`open_safetensors`.

    Raises:
        InputError: as :func:`open_safetensors`.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(f"{folder}/w.safetensors", {"w": np.arange(6).reshape(2, 3).T}, {"made by": "me"})
    ...     print(load_safetensors(f"{folder}/w.safetensors"), load_metadata(f"{folder}/w.safetensors"))
    {'w': array([[0, 3],
           [1, 4],
           [2, 5]])} {'made by': 'me'}
    """
    with opened(Path(path)) as arrays:
        return dict(arrays)


def load_metadata(path: str | Path) -> dict[str, str]:
    """The strings in the header of a safetensors file, or in those of the files of a folder.

    Args:
        path: as for :func:`open_safetensors`.

    Raises:
        InputError: as :func:`open_safetensors`.
    """
    with opened(Path(path)) as arrays:
        return dict(arrays.metadata)


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
    with opened(Path(path)) as arrays:
        return import_state(arrays, params_like, state_like, _own_names(params_like, state_like))


def _own_names(params: Any, state: Any) -> Names:
    trees = (("params", params), ("state", state))
    return {f"{tree}/{path}": To(path, tree=tree) for tree, values in trees for path in by_path(values)}
