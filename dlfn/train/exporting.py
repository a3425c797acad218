"""A trained model, as what a process with jax alone can run."""

from pathlib import Path
from typing import Any

import jax

from dlfn.core import InputError
from dlfn.files import require_writable
from dlfn.train.runs import load
from dlfn.weights import export_onnx, export_program, save_params

__all__ = ["ONNX", "PARAMS", "PROGRAM", "export"]

PARAMS, PROGRAM, ONNX = "params.safetensors", "model.jaxexport", "model.onnx"


def export(run: str | Path, folder: str | Path | None = None, *, onnx: bool = False) -> Path:
    """Writes the model of a run to two files: ``params.safetensors``, and ``model.jaxexport``, the model in inference
    as one program for CPUs, NVIDIA's GPUs and TPUs, for any size of a batch.

    The parameters are in the program, so that this one file is the whole model: whoever has jax, and flatbuffers, with
    which jax reads such files, can call it, and nobody can call it with the parameters of another. It takes inputs as
    the run's model does, standardised if that is what the run's data were, and has a derivative by them where they are
    floating point. Those who want to train on have ``params.safetensors``. Where the model returns a named tuple, the
    program returns a dictionary.

    Args:
        run: the folder of a run.
        folder: where to write; by default the subfolder ``export`` of the run.
        onnx: whether to write ``model.onnx`` as well, by :func:`dlfn.weights.export_onnx`, for one batch of the size
            that the run was trained with.

    Returns:
        The folder.

    Raises:
        InputError: as :func:`dlfn.train.load`, :func:`dlfn.weights.export_program` and
            :func:`dlfn.weights.export_onnx`, and where the folder cannot be written.

    >>> from dlfn import train
    >>> train.export("runs/nothing")
    Traceback (most recent call last):
    dlfn.core.errors.InputError: 'runs/nothing' holds no run: there is no config.toml in it
    """
    loaded = load(run)
    folder = loaded.folder / "export" if folder is None else Path(folder)
    if folder.resolve() == loaded.folder.resolve():
        raise InputError(
            f"folder = {str(folder)!r} is that of the run; choose another, such as {str(folder / 'export')!r}"
        )
    try:
        require_writable(folder / PROGRAM)
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}") from None
    params, state = jax.device_get((loaded.params, loaded.state))

    def model(x: Any) -> Any:
        return loaded.model.apply(params, state, x)[0]

    if onnx:  # first, as it may be refused
        export_onnx(folder / ONNX, model, loaded.inputs)
    try:
        export_program(folder / PROGRAM, model, loaded.inputs)
    except InputError as error:
        raise InputError(f"the model of {str(run)!r}: {error}") from None
    save_params(folder / PARAMS, params, state)
    return folder
