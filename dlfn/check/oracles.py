"""Values and gradients of an op against its definition, and against PyTorch, which nobody here wrote."""

import importlib
import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.registry import Case, Entry
from dlfn.core import autodiff

__all__ = ["check_values", "has_pytorch"]


def has_pytorch() -> bool:
    return importlib.util.find_spec("torch") is not None


def check_values(entry: Entry, case: Case, lead: tuple[int, ...] = (3,)) -> None:
    """In float64: the value against the definition, to 1e-12, and where the case has an oracle and PyTorch is
    installed, value and gradients against that, to 1e-10.

    Raises:
        AssertionError: where they differ, with the worst of it.
    """
    with jax.enable_x64(True):
        args = case.make(lead)
        at = [i for i, a in enumerate(args) if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)]

        def f(*moving: Any) -> Any:
            full = list(args)
            for i, value in zip(at, moving, strict=True):
                full[i] = value
            y = entry.op(*full, **case.static)
            return jnp.concatenate([leaf.reshape(-1) for leaf in y]) if isinstance(y, tuple) else y

        point = [args[i] for i in at]
        shape = jax.eval_shape(f, *point).shape
        cotangent = np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape)

        @jax.jit
        def value_and_cotangents(*point: Any) -> Any:
            y, back = jax.vjp(f, *point)
            return y, back(jnp.asarray(cotangent))

        value, gradients = value_and_cotangents(*point)
        np.testing.assert_allclose(value, jax.jit(autodiff(f))(*point), rtol=1e-12, atol=1e-13)
        if case.oracle is None or not has_pytorch():
            return
        torch = importlib.import_module("torch")
        tensors = [torch.tensor(np.asarray(a), requires_grad=i in at) for i, a in enumerate(args) if a is not None]
        y = case.oracle(torch, *tensors, **case.static)
        y = torch.cat([leaf.reshape(-1) for leaf in y]) if isinstance(y, tuple) else y
        np.testing.assert_allclose(value, y.detach().numpy(), rtol=1e-10, atol=1e-12)
        y.backward(torch.tensor(cotangent))
        for ours, theirs in zip(gradients, [t.grad for t in tensors if t.requires_grad], strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10, atol=1e-12)
