"""Where a nan comes from: the first value of a function or its gradient that is wrong, and its source line."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.comparison import leaf_name
from dlfn.check.execution import Execution
from dlfn.check.findings import Finding, Why, chain, finding
from dlfn.check.opinions import reason
from dlfn.check.origins import Origin, Value, born_outside
from dlfn.core import InputError, jaxprs
from dlfn.core.tracked import tracked_jaxpr, tracked_vjp_jaxpr

__all__ = ["why"]


def why(
    f: Callable[..., Any], *, backward: bool = True, lossy: float | None = 0.5, seed: int | None = None
) -> Callable[..., Why]:
    r"""Finds where values and gradients go wrong: what is nan, inf, all zeros or without digits, and at which line.

    ``f`` and its gradient are run equation by equation, with the rules that it has: through jit, scan, cond, while,
    checkpoint and vmap, inside the rules of ``custom_vjp``, ``custom_jvp`` and :class:`dlfn.Op`. Every equation runs in
    float64 beside. ``f`` is not edited, and may return any pytree. Found are, of what reaches a value or a gradient,

    ======  ============================================================================================
    nan     where no operand is nan
    inf     where all operands are finite; −inf that was passed in, or is a constant, is a mask, and meant
    zero    a number that is rounded to 0, where a nan, an inf or a gradient of zeros comes of it
    dead    where the cotangent ends whose gradient is 0 everywhere, as at a relu that no input passes
    lossy   the equation that enlarged the relative error most, of a result that lost more than half its digits
    ======  ============================================================================================

    Args:
        f: the function. It is traced: its Python control flow must not depend on values.
        backward: whether to look at the gradient, too, in all floating-point arguments.
        lossy: which part of its digits a result may lose, between 0 and 1: with relative errors measured in the norm
            :math:`\|\cdot\|_\infty`, one above :math:`\epsilon^{1 - lossy}` is reported, with the spacing
            :math:`\epsilon` at 1 of the narrowest dtype on the way. None leaves out the run in float64. Float64 itself
            has no wider twin that would tell, and results of 0 but for rounding do not count.
        seed: that of a random cotangent. By default it is of ones: the gradient is that of the sum of what ``f``
            returns.

    Returns:
        A function of the arguments of ``f`` that returns a :class:`Why`: its ``findings``, the first that went wrong
        first. It is true if there are any.

    Raises:
        InputError: when nothing that ``f`` takes or returns is floating point, and on a ``lossy`` outside of 0 to 1.

    Inside a ``shard_map`` the first nan or inf is named, and not what led to it. A function that cannot be
    differentiated, as by a ``while_loop``, is looked at forwards, and a note says why.

    >>> import jax.numpy as jnp, dlfn
    >>> found = dlfn.why(lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0)))(jnp.array([0.0, 1.0]))
    >>> found.findings[0].kind, found.findings[0].cause[:36]
    ('nan', '0 × inf in the backward pass of sqrt')
    """
    if lossy is not None and not (isinstance(lossy, int | float) and 0 < lossy < 1):
        raise InputError(f"why: lossy is {lossy!r}, and must be a number between 0 and 1, or None")

    @functools.wraps(f)
    def asked(*args: Any, **kwargs: Any) -> Why:
        jaxpr, inputs, positions, out_tree = jaxprs.trace(f, args, kwargs)
        paths = [path for path, _ in jax.tree_util.tree_flatten_with_path((args, kwargs))[0]]
        names = [leaf_name(f, paths[i], len(args)) for i in positions]
        outs = [var.aval for var in jaxprs.parts(jaxpr)[0].outvars]
        moving = [name for name, x in zip(names, inputs, strict=True) if _is_float(jnp.result_type(x))]
        if not moving and not any(_is_float(out.dtype) for out in outs):
            raise InputError(
                "why: the function takes and returns no floating-point array, so there is nothing to look at"
            )
        inputs = [jnp.asarray(x) for x in inputs]
        bars = _cotangents([out for out in outs if _is_float(out.dtype)], seed)
        notes: tuple[str, ...] = ()
        program = None
        if backward and moving and bars:
            try:
                program = tracked_vjp_jaxpr(jaxpr, inputs, bars)
            except Exception as error:  # JAX's, of what cannot be differentiated
                notes = (f"backward: not available: {reason(error)}",)
        if program is None:
            program, moving, bars = tracked_jaxpr(jaxpr, inputs), [], []
        execution = Execution(twins=lossy is not None)
        values = [*map(execution.value, inputs), *(execution.value(bar, backward=True) for bar in bars)]
        for name, value in zip(names, values):
            born_outside(value, name)
        results = execution.run(program, values)
        leaves = jax.tree_util.tree_flatten_with_path(out_tree.unflatten(outs))[0]
        labels = [f"the value{jax.tree_util.keystr(path)}" for path, _ in leaves] + [f"d{name}" for name in moving]
        return Why(tuple(_findings(dict(zip(labels, results, strict=True)), lossy)), notes)

    return asked


def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def _cotangents(outs: Sequence[Any], seed: int | None) -> list[jax.Array]:
    if seed is None:
        return [jnp.ones(out.shape, out.dtype) for out in outs]
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=out.shape), out.dtype) for out in outs]


def _findings(results: dict[str, Value], lossy: float | None) -> Iterator[Finding]:
    """What the results have come from: first what makes them not finite, then zeros, then what cost digits, each in the
    order of execution."""
    reached: dict[Origin, tuple[int, list[str]]] = {}
    for label, value in results.items():
        for rank, origin in _origins(value, lossy):
            for link in chain(origin):
                _, labels = reached.setdefault(link, (rank, []))
                labels.append(label)
    seen: set[Any] = set()
    for origin, (_, labels) in sorted(reached.items(), key=lambda item: (item[1][0], item[0].number)):
        found = finding(origin, dict.fromkeys(labels))
        alike = (found.kind, found.line, found.called_from, found.equation, found.derivative_of)
        if alike not in seen:  # else it is the same equation, in another step of a loop
            seen.add(alike)
            yield found


def _origins(value: Value, lossy: float | None) -> Iterator[tuple[int, Origin]]:
    if not value.floating or not value.narrow.size:
        return
    numbers = value.numbers()
    if not np.isfinite(numbers).all():
        if value.bad:
            yield 0, value.bad
    elif value.backward and not numbers.any():
        if value.zero:
            yield 1, value.zero
    elif lossy is not None and value.lossy and value.error > value.unit ** (1 - lossy) and _has_digits(value):
        yield 2, value.lossy


def _has_digits(value: Value) -> bool:
    """Whether the twin in float64 is more than rounding error itself."""
    narrower = 1.0 if value.rounded else float(np.finfo(np.float64).eps) / value.unit
    return 10 * value.error * narrower < 1
