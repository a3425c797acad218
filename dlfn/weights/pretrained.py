"""Pretrained networks from their folders, and back: ``config.json`` and safetensors, in one file or in several."""

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.files import replacing
from dlfn.weights.files import open_safetensors, save_safetensors
from dlfn.weights.mapping import export_state, import_state
from dlfn.weights.maps.families import of_config
from dlfn.weights.names import Names, ignores
from dlfn.weights.reading import Stored

__all__ = ["Pretrained", "from_pretrained", "save_pretrained"]

_CONFIG, _FILE, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Pretrained:
    """What a folder holds. It unpacks to model and params.

    Attributes:
        model: the layers.
        params: as ``model.apply`` takes them.
        state: likewise; ``()`` but for batch norms.
        config: the dictionary of ``config.json``.
        names: the map of the files, as for :func:`~dlfn.weights.import_state`.
        files: for each file the names in it, and the strings in its header.
        texts: the contents of ``config.json``, and of the index where there are several files.
        rest: arrays without a place in the model, such as buffers, which are written back as they were.
        dtypes: of the arrays in the files.
    """

    model: Any
    params: Any
    state: Any
    config: Mapping[str, Any]
    names: Names
    files: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]
    texts: Mapping[str, bytes]
    rest: Mapping[str, np.ndarray]
    dtypes: Mapping[str, Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.params))


def from_pretrained(folder: str | Path, *, dtype: Any = None) -> Pretrained:
    """A model and its params from a folder with ``config.json`` and ``model.safetensors``, or several such files with
    their index. Nothing is fetched from a network.

    Args:
        folder: as Hugging Face's ``save_pretrained`` writes it, or a copy of a repository there. The models that are
            known: :data:`dlfn.weights.maps.FAMILIES`.
        dtype: of the params; None for that of the file.

    Raises:
        InputError: on a folder without these files, on a model or a setting that is not known, and listing every array
            that is missing, too many, or of another shape. Nothing is loaded in part.

    >>> import json, pathlib, tempfile, jax, jax.numpy as jnp
    >>> from dlfn.weights import export_state, maps, save_safetensors
    >>> config = {"model_type": "llama", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
    ...           "num_attention_heads": 2, "intermediate_size": 12}
    >>> mapped = maps.of_config(config)
    >>> params, _ = mapped.model.init(jax.random.key(0), jnp.zeros((1, 2), int))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(f"{folder}/config.json").write_text(json.dumps(config))
    ...     save_safetensors(f"{folder}/model.safetensors", export_state(params, (), mapped.names))
    ...     model, params = from_pretrained(folder)
    >>> print(model.apply(params, (), jnp.array([[3, 1, 4]]))[0].shape)
    (1, 3, 11)
    """
    folder = Path(folder)
    config = _config(folder)
    with open_safetensors(folder) as arrays:
        return _loaded(folder, config, arrays, dtype)


def _loaded(folder: Path, config: Mapping[str, Any], arrays: Stored, dtype: Any) -> Pretrained:
    mapped = of_config(config, arrays.keys())
    dtypes = {name: arrays.shape_of(name).dtype for name in arrays}
    floats = [own for own in dtypes.values() if jnp.issubdtype(own, jnp.floating)] or [np.dtype(np.float32)]
    if dtype is None:  # float64 only where JAX has it
        dtype = jnp.asarray(np.zeros((), functools.reduce(jnp.promote_types, floats))).dtype
    params_like, state_like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        jax.eval_shape(mapped.model.init, jax.random.key(0), mapped.inputs),
    )
    params, state = import_state(arrays, params_like, state_like, mapped.names)
    is_ignored = ignores(mapped.names)
    rest = {name: arrays[name] for name in arrays if is_ignored(name)}
    return Pretrained(mapped.model, params, state, config, mapped.names, *_files(folder), rest, dtypes)


def save_pretrained(folder: str | Path, pretrained: Pretrained, params: Any = None, state: Any = None) -> None:
    """Writes a folder as the one that :func:`from_pretrained` has read: the same names in the same files, in the same
    dtypes, with the same configuration.

    Args:
        folder: which is made if need be. Each file is replaced as a whole.
        pretrained: what was read.
        params: other ones than those that were read, as after training; None for those.
        state: likewise.

    Raises:
        InputError: where params do not fit the map, and where a file cannot be written.
    """
    folder = Path(folder)
    params = pretrained.params if params is None else params
    state = pretrained.state if state is None else state
    arrays = export_state(params, state, pretrained.names)
    arrays = {name: array.astype(pretrained.dtypes[name]) for name, array in arrays.items()} | dict(pretrained.rest)
    for file, (names, metadata) in pretrained.files.items():
        save_safetensors(folder / file, {name: arrays[name] for name in names}, metadata)
    for file, content in pretrained.texts.items():
        with _writing(folder / file) as written:
            written.write(content)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}") from None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not folder.is_dir():
        raise InputError(f"from_pretrained: {str(folder)!r} is no folder; give one with {_CONFIG} and {_FILE}")
    if not path.is_file():
        raise InputError(f"from_pretrained: there is no {_CONFIG} in {str(folder)!r}, which says what the model is")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"from_pretrained: {str(path)!r} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"from_pretrained: {str(path)!r} holds {config!r:.40}, and must hold a dictionary")
    return config


def _files(folder: Path) -> tuple[dict[str, tuple[tuple[str, ...], Mapping[str, str]]], dict[str, bytes]]:
    """What is in which file, and the texts beside them; :func:`open_safetensors` has found them to fit."""
    texts = {_CONFIG: (folder / _CONFIG).read_bytes()}
    where = [_FILE]
    if not (folder / _FILE).is_file():
        texts[_INDEX] = (folder / _INDEX).read_bytes()
        where = list(dict.fromkeys(json.loads(texts[_INDEX])["weight_map"].values()))
    files = {}
    for file in where:
        with open_safetensors(folder / file) as arrays:
            files[file] = tuple(arrays), arrays.metadata
    return files, texts
