"""Functions of arrays as programs in files, for processes without dlfn."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax.extend import core as jax_core

from dlfn.core import InputError, autodiff
from dlfn.files import replacing

__all__ = ["export_onnx", "export_program"]

_PLATFORMS = ("cpu", "cuda", "tpu")


def export_program(
    path: str | Path, f: Callable[..., Any], *inputs: Any, platforms: Sequence[str] = _PLATFORMS
) -> Path:
    """Writes a function of arrays to one file by ``jax.export``, for batches of any size.

    Whoever has jax, and flatbuffers, with which jax reads such files, can call it. Arrays that the function holds, such
    as a model's parameters, are in the file. The program has a derivative where all inputs are floating point. Where
    the function returns a named tuple, the program returns a dictionary.

    Args:
        path: the file.
        f: a function of arrays or pytrees of them, such as a model in inference.
        inputs: examples of its arguments, arrays or ``jax.ShapeDtypeStruct``; the first axis of each is the batch.
        platforms: on which it shall run.

    Returns:
        The path.

    Raises:
        InputError: on an input without a first axis, and where f cannot be computed for a batch of any size.

    >>> import pathlib, tempfile
    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> model = nn.Serial(nn.Linear(8), nn.GELU(), nn.Linear(3))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.jaxexport"
    >>> _ = export_program(path, lambda x: model.apply(params, state, x)[0], jnp.ones((1, 4)))
    >>> jax.export.deserialize(bytearray(path.read_bytes())).call(jnp.ones((5, 4))).shape
    (5, 3)
    """
    batch = jax_export.symbolic_shape("batch")

    def symbolic(leaf: Any) -> jax.ShapeDtypeStruct:
        if not jnp.shape(leaf):
            raise InputError("export_program: an input is a scalar, and must have the batch as its first axis")
        return jax.ShapeDtypeStruct((*batch, *leaf.shape[1:]), leaf.dtype)

    shapes = jax.tree.map(symbolic, inputs)
    try:
        program = jax_export.export(jax.jit(lambda *xs: _plain(f(*xs))), platforms=tuple(platforms))(*shapes)
    except Exception as error:  # a function that asks for the size of a batch may fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"the function cannot be computed for a batch of any size: {reason}") from None
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(shapes))
    content = program.serialize(vjp_order=int(floating))
    path = Path(path)
    with replacing(path) as file:
        file.write(content)
    return path


def export_onnx(path: str | Path, f: Callable[..., Any], *inputs: Any) -> Path:
    """Writes a function of arrays to an ONNX file, by jax2onnx (``pip install "dlfn[onnx]"``).

    What is written is the function by the definitions of its ops, for inputs of exactly these shapes. Values without
    gradients: for training there is :func:`export_program`. jax2onnx has no counterpart for some of jax's primitives.

    Args:
        path: the file.
        f: a function of arrays, such as a model in inference.
        inputs: examples of its arguments, arrays or ``jax.ShapeDtypeStruct``.

    Returns:
        The path.

    Raises:
        InputError: where jax2onnx is not installed, and where it cannot convert the function, with its reason.

    >>> import jax.numpy as jnp
    >>> from dlfn import ops
    >>> export_onnx("gelu.onnx", ops.gelu, jnp.ones((2, 3)))  # doctest: +SKIP
    PosixPath('gelu.onnx')
    """
    try:
        from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("export_onnx needs jax2onnx: pip install 'dlfn[onnx]'") from None
    # jax2onnx puts functions of its own in the place of jax.numpy's while it traces, so that it gets a program that has
    # been traced before.
    program = jax.make_jaxpr(autodiff(f))(*inputs)
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(inputs)]
    try:
        model = to_onnx(jax_core.jaxpr_as_fun(program), shapes)
    except Exception as error:  # of whatever kind: it is another library's
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"jax2onnx cannot convert the function: {reason}") from None
    path = Path(path)
    with replacing(path) as file:
        file.write(model.SerializeToString())
    return path


def _plain(outputs: Any) -> Any:
    """Of types that a process without dlfn knows."""
    return outputs._asdict() if hasattr(outputs, "_asdict") else outputs
