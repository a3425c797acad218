"""A trained model, as what a process with jax alone can run."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from dlfn.core import InputError
from dlfn.files import replacing, require_writable
from dlfn.train.runs import load
from dlfn.weights import save_params

__all__ = ["PARAMS", "PROGRAM", "export"]

PARAMS, PROGRAM = "params.safetensors", "model.jaxexport"
_PLATFORMS = ("cpu", "cuda", "tpu")


def export(run: str | Path, folder: str | Path | None = None) -> Path:
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

    Returns:
        The folder.

    Raises:
        InputError: as :func:`dlfn.train.load`, where the folder cannot be written, and where the model cannot be
            computed for a batch whose size is not known.

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
    batch = jax_export.symbolic_shape("batch")
    inputs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*batch, *leaf.shape[1:]), leaf.dtype), loaded.inputs)
    params, state = jax.device_get((loaded.params, loaded.state))

    @jax.jit
    def model(x: Any) -> Any:
        return _plain(loaded.model.apply(params, state, x)[0])

    try:
        program = jax_export.export(model, platforms=_PLATFORMS)(inputs)
    except Exception as error:  # a model that asks for the size of a batch may fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"the model of {str(run)!r} cannot be computed for a batch of any size: {reason}") from None
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(inputs))
    content = program.serialize(vjp_order=int(floating))
    save_params(folder / PARAMS, params, state)
    with replacing(folder / PROGRAM) as file:
        file.write(content)
    return folder


def _plain(outputs: Any) -> Any:
    """Of types that a process without dlfn knows."""
    return outputs._asdict() if hasattr(outputs, "_asdict") else outputs
