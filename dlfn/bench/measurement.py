"""Interleaved A/B timing in one process, and memory, of forward and backward together."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import jaxprs

__all__ = ["Measurement", "measure", "residual_bytes"]

PAIRS = 40
LEAST_SECONDS = 0.010  # of one measurement


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Ours against a baseline. ``speedup`` is baseline time over ours: the median over interleaved pairs, with its
    quartiles. Temporaries are the compiled program's; residuals are what the vjp holds between forward and backward."""

    speedup: float
    speedup_low: float
    speedup_high: float
    temp_bytes: int
    baseline_temp_bytes: int
    residual_bytes: int
    baseline_residual_bytes: int


def measure(
    ours: Callable[..., Any], baseline: Callable[..., Any], args: tuple[Any, ...], *, pairs: int | None = None
) -> Measurement:
    """Times forward and backward under one jit. Arguments and cotangents are passed in: what a program closes over is
    folded into constants. The pairs alternate in order (A B, B A), so that a drift of the machine hits both alike.

    >>> import jax.numpy as jnp, dlfn
    >>> from dlfn.bench import measure
    >>> m = measure(dlfn.ops.tanh, jnp.tanh, (jnp.ones(8),), pairs=2)
    >>> m.residual_bytes, m.speedup_low <= m.speedup <= m.speedup_high
    (32, True)
    """
    programs, calls = [], []
    for f in (ours, baseline):
        step, moving = _forward_and_backward(f, args)
        cotangents = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), jax.eval_shape(f, *args))
        program = jax.jit(step).lower(moving, args, cotangents).compile()
        programs.append(program)
        calls.append(lambda program=program, moving=moving, cotangents=cotangents: program(moving, args, cotangents))
    # As many calls of both, since what a measurement costs by itself is shared among them; after both have run, since
    # what runs first finds memory that nobody has touched.
    once = [min(_seconds(call, 1) for call in calls) for _ in range(4)]
    repeats = max(1, round(LEAST_SECONDS / max(min(once), 1e-6)))
    ratios = []
    for i in range(pairs or PAIRS):
        times = [0.0, 0.0]
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            times[which] = _seconds(calls[which], repeats)
        ratios.append(times[1] / times[0])
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    temps = [program.memory_analysis().temp_size_in_bytes for program in programs]
    residuals = [residual_bytes(f, args) for f in (ours, baseline)]
    return Measurement(float(median), float(low), float(high), *temps, *residuals)


def _split(args: tuple[Any, ...]) -> tuple[list[Any], Callable[[Any], tuple[Any, ...]]]:
    """The floating-point arrays in the arguments, and what puts others in their places."""
    leaves, tree = jax.tree.flatten(args)
    at = [i for i, a in enumerate(leaves) if hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating)]

    def replaced(moving: Any) -> tuple[Any, ...]:
        full = list(leaves)
        for i, value in zip(at, moving, strict=True):
            full[i] = value
        return jax.tree.unflatten(tree, full)

    return [leaves[i] for i in at], replaced


def _forward_and_backward(f: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], list[Any]]:
    def step(moving: list[Any], args: tuple[Any, ...], cotangents: Any) -> Any:
        _, replaced = _split(args)
        y, back = jax.vjp(lambda *moving: f(*replaced(moving)), *moving)
        return y, back(cotangents)

    return step, _split(args)[0]


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    out = None
    for _ in range(repeats):
        out = call()
    jax.block_until_ready(out)
    return (time.perf_counter() - start) / repeats


def residual_bytes(f: Callable[..., Any], args: tuple[Any, ...]) -> int:
    """Bytes of the distinct arrays that ``jax.vjp(f)`` holds for the backward pass, arguments among them."""
    moving, replaced = _split(args)

    def held(*moving: Any) -> Any:
        return jax.tree.leaves(jax.vjp(lambda *moving: f(*replaced(moving)), *moving)[1])

    jaxpr = jax.make_jaxpr(held)(*moving)
    variables = {id(v): v.aval for v in jaxprs.parts(jaxpr)[0].outvars}
    return sum(aval.size * aval.dtype.itemsize for aval in variables.values())
