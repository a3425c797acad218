"""The gradients of the parameters by three ways, and how far they are from each other."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.explain.explanation import Parameter
from dlfn.explain.summaries import summarized

__all__ = ["gradient", "parameter", "wide", "worst"]


def gradient(program: Any, inputs: Sequence[Any], chosen: Sequence[int], seeds: Sequence[Any]) -> list[Any]:
    """By JAX, of the product of the outputs with their cotangents."""

    @jax.jit
    def gradient(inputs: Any) -> Any:
        def of_chosen(*values: Any) -> list[Any]:
            full = list(inputs)
            for i, value in zip(chosen, values, strict=True):
                full[i] = value
            return [out for out, seed in zip(program(*full), seeds, strict=True) if seed is not None]

        pull = jax.vjp(of_chosen, *(inputs[i] for i in chosen))[1]
        return pull([seed for seed in seeds if seed is not None])

    return list(gradient([jnp.asarray(x) for x in inputs]))


def parameter(path: str, value: Any, hand: Any, walked: Any, plain: Any, scale: float, keep: bool) -> Parameter:
    """A leaf with its gradient by ``jax.grad``, and how far those of the walk and of the definitions are from it."""
    value = jnp.asarray(value)
    tolerance = 1e-10 if value.dtype == np.float64 else float(jnp.finfo(value.dtype).eps) ** 0.5
    backprop = _distance(hand, walked, scale)
    autodiff = None if plain is None else _distance(hand, plain, scale)
    ok = backprop <= tolerance and (autodiff is None or autodiff <= tolerance)
    return Parameter(
        path,
        value.shape,
        str(value.dtype),
        summarized(value, keep=keep),
        summarized(hand, keep=keep),
        backprop,
        autodiff,
        ok,
    )


def _distance(a: Any, b: Any, scale: float) -> float:
    """Relative to ‖a‖, or a thousandth of the whole gradient where a is smaller: what would be zero is rounding."""
    a, b = np.asarray(a, wide(a)), np.asarray(b, wide(b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        difference = float(np.linalg.norm(np.where(same, 0, a - b)))
        return difference / max(float(np.linalg.norm(a)), 1e-3 * scale) if difference else 0.0


def wide(x: Any) -> Any:
    return np.promote_types(np.float64 if x.dtype.itemsize == 8 else np.float32, np.float32)


def worst(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return float(np.max(known)) if known else None
