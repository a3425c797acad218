"""Checking an op's gradients over the cases of the registry."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.differences import finite_differences
from dlfn.check.measures import FINITE_DIFFERENCE_TOLERANCE, cotangents, projected, relative_error
from dlfn.check.measures import worst_coordinate as worst
from dlfn.core import autodiff, backprop
from dlfn.registry.entry import Case, Entry

__all__ = ["DTYPES", "PATHS", "Result", "check_case", "has_forms", "tolerance"]

PATHS = ("hand", "backprop", "finite_difference")
DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Result:
    """One argument's gradient by one path. The error is relative to the largest entry of the float64 reference; None
    where something is not finite, which is a failure."""

    op: str
    case: str
    dtype: str
    path: str
    argument: str
    max_relative_error: float | None
    tolerance: float
    worst: str

    @property
    def ok(self) -> bool:
        return self.max_relative_error is not None and self.max_relative_error <= self.tolerance


def tolerance(dtype: str, terms: int, platform: str = "cpu") -> float:
    """How far a gradient may be from the reference, relative to its largest entry, with ε the dtype's spacing at 1.

    In float64 it is 1e-10, to which any two formulas agree. In float32 it is 8 ε √n for sums of n terms. Half types are
    summed in float32, so that only the result is rounded to them: for float16 it is ε, two roundings of ε/2 each, and
    for bfloat16 ε/2, one such rounding. On GPUs and TPUs cotangents too are rounded to bfloat16 before they are
    multiplied, and the bound is ε there."""
    if dtype == "float64":
        return 1e-10
    if dtype == "float32":
        return 8 * float(jnp.finfo("float32").eps) * max(terms, 1) ** 0.5
    return float(jnp.finfo(dtype).eps) / (2 if dtype == "bfloat16" and platform == "cpu" else 1)


def check_case(
    entry: Entry,
    case: Case,
    dtype: str,
    lead: tuple[int, ...] = (4,),
    seed: int = 0,
    paths: Sequence[str] = PATHS,
    platform: str | None = None,
) -> Iterator[Result]:
    """Yields a result for every floating-point argument and path; finite differences are for float64 only. The
    reference is autodiff of the definition in float64, at the inputs as ``dtype`` rounds them. The bounds are those of
    the platform, by default that of JAX's default device."""
    with jax.enable_x64(True):
        args = case.make(lead, dtype, seed)
        moving = [i for i, a in enumerate(args) if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)]
        point = [args[i] for i in moving]

        def of_floats(point: list[Any]) -> Any:
            full = list(args)
            for i, value in zip(moving, point, strict=True):
                full[i] = value
            return entry.op(*full, **case.static)

        loss = projected(of_floats, cotangents(jax.eval_shape(of_floats, point), seed))
        exact = [x.astype("float64") for x in point]
        reference = jax.jit(jax.grad(autodiff(loss)))(exact)
        bound = tolerance(dtype, case.terms(*args), platform or jax.default_backend())

        def name(i: int) -> str:
            return entry.op.argument_name((jax.tree_util.SequenceKey(i),))

        result = functools.partial(Result, entry.op.name, case.name, dtype)
        gradients = {"hand": jax.grad(loss), "backprop": backprop(loss)}
        for path in [path for path in gradients if path in paths]:
            try:
                grads = jax.jit(gradients[path])(point)
            except Exception as error:  # a backward that raises has failed the check, not ended it
                message = f"{type(error).__name__}: {error}".split("\n")[0]
                yield from (result(path, name(i), None, bound, message) for i in moving)
                continue
            for i, got, expected in zip(moving, grads, reference, strict=True):
                yield result(path, name(i), relative_error(got, expected), bound, worst(got, expected))
        if dtype == "float64" and "finite_difference" in paths:
            everywhere = [np.arange(x.size) for x in point]
            for i, (got, _), expected in zip(
                moving, finite_differences(loss, point, everywhere), reference, strict=True
            ):
                got = got.reshape(expected.shape)
                error = relative_error(got, expected)
                yield result("finite_difference", name(i), error, FINITE_DIFFERENCE_TOLERANCE, worst(got, expected))


def has_forms(entry: Entry) -> bool:
    """Whether the op is computed otherwise on GPUs or TPUs."""
    case = entry.cases[0]
    args = case.make((4,), "float32", 0)
    return "dlfn_form" in str(jax.make_jaxpr(lambda *args: entry.op.forward(*args, **case.static)[0])(*args))
