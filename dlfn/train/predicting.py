"""What a run's model says of new inputs."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.data.reading import existing_file, is_number, readable
from dlfn.train.runs import Loaded, load

__all__ = ["predict", "read_inputs"]

# So many examples go through the model at once.
_BATCH = 256


def predict(run: str | Path | Loaded, inputs: Any, *, top: int = 5) -> list[dict[str, Any]]:
    """What the model of a run says of inputs, without the data that it was trained on.

    Inputs are as the run's data have them, such as images in bytes or the columns of a table in their own units: they
    are prepared as in training, by what the run has kept of it.

    Args:
        run: the folder of a run, or what :func:`dlfn.train.load` made of it.
        inputs: an array (examples, ...); for a language model text, or tokens (examples, steps).
        top: how many of the next tokens a language model names.

    Returns:
        For each example, by task: of a classification ``label`` and ``probability``; of a regression ``prediction``,
        in the target's own units; of a language model ``next``, the likeliest tokens, each with ``token`` and
        ``probability``; of a variational autoencoder ``code``, its mean. Of a task of your own ``output``.

    Raises:
        InputError: as :func:`dlfn.train.load`, and where the inputs are not such as the model takes.

    >>> from dlfn import train
    >>> train.predict("runs/nothing", [[1.0, 2.0]])
    Traceback (most recent call last):
    dlfn.core.errors.InputError: 'runs/nothing' holds no run: there is no config.toml in it
    """
    loaded = run if isinstance(run, Loaded) else load(run)
    task = loaded.config.task.name
    x = _prepared(loaded, inputs)
    apply = jax.jit(lambda x: loaded.model.apply(loaded.params, loaded.state, x)[0])
    batches = [jax.device_get(apply(x[start : start + _BATCH])) for start in range(0, len(x), _BATCH)]
    outputs = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
    if task == "next_token":
        return [{"next": _next(loaded.info, logits[-1], top)} for logits in outputs]
    if task == "classification":
        return [_class(loaded.info, logits) for logits in outputs]
    if task == "regression":
        offset, unit = loaded.info.get("target_scale", (0.0, 1.0))
        values = np.asarray(outputs, float).reshape(len(x), -1) * unit + offset
        return [{"prediction": row.tolist() if len(row) > 1 else float(row[0])} for row in values]
    if task == "elbo":
        return [{"code": code.tolist()} for code in outputs.mean]
    return [{"output": output.tolist()} for output in outputs]


def read_inputs(loaded: Loaded, given: str) -> Any:
    """The inputs in a file: ``.npy``, ``.npz`` (by the name that the run's data have for inputs, or the only array), or
    ``.csv`` (with the columns of the table that the run was trained on, in any order, and others besides). For a
    language model ``given`` is the text itself, unless it is a file of tokens, ``.npy``.

    Raises:
        InputError: where the file cannot be read, or has no such array or column.
    """
    suffix = Path(given).suffix.lower()
    if loaded.config.task.name == "next_token" and not (suffix == ".npy" and Path(given).is_file()):
        return given
    file = existing_file(given, "INPUT")
    if suffix == ".csv":
        return _columns(file, loaded.info.get("columns"), loaded.config.data.settings)
    if suffix not in (".npy", ".npz"):
        raise InputError(f"INPUT = {given!r}: must be a file .npy, .npz or .csv")
    with readable(file), file.open("rb") as opened:
        arrays = np.load(opened, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            return arrays
        with arrays:
            name = loaded.config.data.settings.get("x", "x")
            name = arrays.files[0] if len(arrays.files) == 1 else name
            if name not in arrays:
                raise InputError(f"{given!r} has no array {name!r}; {suggestion(name, arrays.files)}")
            return arrays[name]


def _prepared(loaded: Loaded, inputs: Any) -> Any:
    shape, dtype = loaded.inputs.shape[1:], loaded.inputs.dtype
    if isinstance(inputs, str):
        if "encode" not in loaded.info:
            raise InputError(
                f"inputs are text, and the run in {str(loaded.folder)!r} knows no tokens of text; give arrays"
            )
        inputs = loaded.info["encode"](inputs)[None, -shape[-1] :]
        if not inputs.size:
            raise InputError("the text is empty, and must have a token at least")
    x = np.asarray(inputs)
    if x.dtype.kind not in "fiub":
        raise InputError(f"inputs are of dtype {x.dtype}, and must be numbers")
    text = loaded.config.task.name == "next_token"
    if (x.ndim != len(shape) + 1) if text else (x.shape[1:] != shape):
        wanted = "steps" if text else ", ".join(map(str, shape))
        raise InputError(f"inputs have shape {x.shape}, and must be (examples, {wanted}), as those of training are")
    if not x.size:
        raise InputError("there are no examples among the inputs")
    if jnp.issubdtype(dtype, jnp.integer):
        if x.dtype.kind == "f" or x.min() < 0 or x.max() >= loaded.info.get("vocabulary", np.inf):
            raise InputError(f"inputs must be tokens, integers from 0 to {loaded.info.get('vocabulary', 0) - 1}")
        return x.astype(dtype)
    if not np.isfinite(x).all():
        raise InputError("inputs have entries that are not finite")
    offset, unit = (np.asarray(part) for part in loaded.info.get("input_scale", (0.0, 1.0)))
    return ((x - offset) / unit).astype(dtype)


def _next(info: Any, logits: np.ndarray, top: int) -> list[dict[str, Any]]:
    probabilities = _softmax(logits)
    decode = info.get("decode", lambda ids: int(ids[0]))
    likely = np.argsort(-probabilities, kind="stable")[:top]
    return [{"token": decode([token]), "probability": float(probabilities[token])} for token in likely]


def _class(info: Any, logits: np.ndarray) -> dict[str, Any]:
    probabilities = _softmax(logits)
    label = int(probabilities.argmax())
    return {"label": info["labels"][label] if "labels" in info else label, "probability": float(probabilities[label])}


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(float) - logits.max())
    return exponentials / exponentials.sum()


def _columns(file: Path, names: Any, settings: Mapping[str, Any]) -> np.ndarray:
    """Of a table the columns of these names, which in one without a header are their numbers; of one without a header
    where the names are others, all. Delimiter and header are as the run's data were told."""
    with readable(file), file.open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines, delimiter=settings.get("delimiter", ",")) if row]
    if not rows:
        raise InputError(f"{str(file)!r} has no rows")
    has_header = settings.get("header")
    if has_header is None:
        has_header = not any(map(is_number, rows[0]))
    columns = [name.strip() for name in rows.pop(0)] if has_header else [str(i) for i in range(len(rows[0]))]
    wanted = range(len(columns))
    if names is not None and (has_header or all(map(str.isdecimal, names))):
        for name in names:
            if name not in columns:
                raise InputError(f"{str(file)!r} has no column {name!r}; {suggestion(name, columns)}")
        wanted = [columns.index(name) for name in names]
    try:
        return np.array([[float(row[index]) for index in wanted] for row in rows])
    except (ValueError, IndexError) as error:
        raise InputError(f"{str(file)!r} is no table of numbers: {error}") from None
