"""Primitives that are given functions, apart from loops and branches: linear solves, and reductions by any function."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core import jaxprs
from dlfn.core.errors import InputError
from dlfn.core.rules.windows import Windows
from dlfn.core.walk import Result, Walk, structural, zeros

__all__: list[str] = []  # imported to register its functions


@structural("custom_linear_solve")
def _custom_linear_solve(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    r"""A x = b: :math:`\bar b = A^{-T} \bar x`, by the solver of the transposed system. The parameters of A get what
    comes back through :math:`x \mapsto A x`, at x, from :math:`-\bar b`."""
    params = eqn.params["jaxprs"]
    operands, rest = [], values
    for length in eqn.params["const_lengths"]:
        operands.append(rest[:length])
        rest = rest[length:]
    matrix, _, _, transposed = operands
    outs = jaxprs.bind(eqn, values)
    walk.reserve(*jaxprs.subjaxprs(eqn))  # names inside have no cotangents
    line = walk.source_line(eqn)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        if params.transpose_solve is None:
            raise InputError(
                f"backprop: custom_linear_solve cannot be run backwards without a transpose_solve ({line}); give it "
                "one, or symmetric=True"
            )
        x, x_bars = outs[: len(rest)], zeros(bars, outs)[: len(rest)]
        b_bars = jaxprs.run(params.transpose_solve, [*transposed, *x_bars])[: len(rest)]
        active = [*needs[: len(matrix)], *[False] * len(x)]
        _, matrix_back = walk.inner().pullback(params.matvec, [*matrix, *x], active)
        matrix_bars = matrix_back([-bar for bar in b_bars])[: len(matrix)]
        return [*matrix_bars, *[None] * (len(values) - len(matrix) - len(rest)), *b_bars]

    return outs, back


# Reductions by any function: as the program that reduces the parts pair by pair, which has rules


@structural("reduce")
def _reduce(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    n, dimensions = len(values) // 2, eqn.params["dimensions"]

    def program(*arrays: Any) -> list[Any]:
        flat = [_at_front(x, dimensions) for x in arrays]
        return _reduced(eqn.params["jaxpr"], [[x[i] for x in flat] for i in range(flat[0].shape[0])])

    return _by_program(program, eqn, values[:n], needs, walk)


def _at_front(x: Any, dimensions: Sequence[int]) -> Any:
    """The array with these axes as one, in front of the others."""
    kept = [d for d in range(x.ndim) if d not in dimensions]
    return lax.transpose(x, [*dimensions, *kept]).reshape(-1, *(x.shape[d] for d in kept))


@structural("reduce_window")
def _reduce_window(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    n, params = len(values) // 2, dict(eqn.params)
    reducer, consts = params.pop("jaxpr"), params.pop("consts")
    windows = Windows(values[0].shape, **params)

    def program(*arrays: Any) -> list[Any]:
        padded = [windows.pad(x, start) for x, start in zip(arrays, values[n:], strict=True)]
        return _reduced(reducer, [[windows.read(x, start) for x in padded] for start in windows.starts], consts)

    return _by_program(program, eqn, values[:n], needs, walk)


def _by_program(program: Callable[..., Any], eqn: Any, arrays: list[Any], needs: list[bool], walk: Walk) -> Result:
    n = len(arrays)
    walk.reserve(*jaxprs.subjaxprs(eqn))  # names inside have no cotangents
    if any(needs[n:]):
        raise InputError(
            f"backprop: {eqn.primitive.name!r} has no rule for the value that it starts with "
            f"({walk.source_line(eqn)}), which must be neutral; give it a constant"
        )
    outs, back = walk.inner().pullback(jax.make_jaxpr(program)(*arrays), arrays, needs[:n])
    return outs, lambda bars: [*back(bars), *[None] * n]


def _reduced(reducer: Any, parts: list[list[Any]], consts: Sequence[Any] | None = None) -> list[Any]:
    """Parts are lists of arrays of one shape, of whose single numbers ``reducer`` takes two lists."""
    together = jnp.vectorize(lambda *numbers: tuple(jaxprs.run(reducer, numbers, consts=consts)))
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [together(*left, *right) for left, right in pairs] + parts[len(parts) // 2 * 2 :]
    return list(parts[0])
