"""Comparing gradients: by hand rule, by backprop, by autodiff of the definitions, by finite differences."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.advice import advice, kept_rules
from dlfn.check.measures import (
    FINITE_DIFFERENCE_TOLERANCE,
    LINEARITY,
    NUMERIC,
    cotangents,
    finite_differences,
    hand_gradients,
    norm,
    projected,
    relative_error,
    worst_coordinate,
)
from dlfn.core import InputError, autodiff, backprop

__all__ = ["Comparison", "Row", "compare", "format_table"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of the arguments. ``norm`` is ‖autodiff‖∞. Errors are ‖ours − autodiff‖∞ / ``scale``, or None where
    something is not finite or was not computed. ``scale`` is ``norm``, or larger where that is so small that the
    tolerance of it is below rounding, as :func:`compare` explains. ``linearity`` is how far the hand rule is from
    linear in its cotangent, relative to the terms that are compared."""

    path: str
    shape: tuple[int, ...]
    norm: float
    scale: float
    hand: float | None
    backprop: float | None
    finite_difference: float | None
    linearity: float | None
    worst: str
    ok: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found. ``ok``, which is also its truth, says whether all gradients agree; printing it gives
    the table."""

    rows: tuple[Row, ...]
    value_error: float | None
    tolerance: float
    dtype: str
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows) and self.value_ok

    def __bool__(self) -> bool:
        return self.ok

    @property
    def value_ok(self) -> bool:
        """Whether the function and its definitions have the same value."""
        return self.value_error is not None and self.value_error <= self.tolerance

    def __str__(self) -> str:
        header = ("leaf", "shape", "|autodiff|", "hand rule", "backprop", NUMERIC, LINEARITY, "worst coordinate", "")
        lines = [
            (row.path, str(list(row.shape)), f"{row.norm:.3g}", _error(row.hand), _error(row.backprop),
             _error(row.finite_difference), _error(row.linearity), row.worst, self._verdict(row))
            for row in self.rows
        ]  # fmt: skip
        verdict = "all gradients agree" if self.ok else "NOT ALL GRADIENTS AGREE"
        numeric = any(row.finite_difference is not None for row in self.rows)
        tail = (
            f"{verdict}: {self.dtype}, against autodiff of the definitions, to {self.tolerance:g} of each leaf's "
            f"largest entry{f' (finite differences {FINITE_DIFFERENCE_TOLERANCE:g})' * numeric}"
        )
        return "\n".join([format_table(header, lines), *self.notes, tail])

    def _verdict(self, row: Row) -> str:
        if not row.ok:
            return "FAIL"
        return "ok: 0 but for rounding" if 0 < row.norm <= self.tolerance * row.scale else "ok"


def _error(error: float | None) -> str:
    return "–" if error is None else f"{error:.1e}"


def format_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [header, ["-" * width for width in widths], *lines]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip


def compare(
    f: Callable[..., Any],
    *,
    dtype: Any = "float64",
    tolerance: float | None = None,
    coordinates: int = 32,
    seed: int = 0,
    custom_jvp: bool = False,
) -> Callable[..., Comparison]:
    r"""Compares the gradients of any JAX function, hand-derived or not, in every floating-point argument.

    Four gradients are taken: ``jax.grad(f)``, with every hand-written rule (of dlfn's Ops, of ``jax.custom_vjp``);
    :func:`dlfn.backprop`; ``jax.grad(dlfn.autodiff(f))``, with none of these; and central finite differences. The
    third is the reference. What is differentiated is the sum of what ``f`` returns times a seeded random cotangent.
    Where ``f`` returns one number, values and gradients are divided by its cotangent again before they are shown. A
    fifth check is that the hand rule is linear in its cotangent, as every derivative is:
    :math:`vjp(a u + b v) = a\, vjp(u) + b\, vjp(v)`.

    Args:
        f: the function; it need not know of dlfn.
        dtype: floating-point arguments are cast to it; in float64 (the default, whatever ``jax_enable_x64`` says) a
            rule that is wrong by 0.01 % in one coordinate cannot hide behind rounding. None leaves them as they are.
        tolerance: relative to the largest entry of each leaf's gradient. By default it is 1e-10 in float64, and the
            square root of the dtype's spacing at 1 in narrower dtypes. Those are too coarse for finite differences,
            which are left out.
        coordinates: how many coordinates of each leaf finite differences try, drawn at random; 0 leaves them out.
        seed: that of the random cotangent and coordinates.
        custom_jvp: whether the rules of ``jax.custom_jvp`` are stripped from the reference too. By default they are
            not, because those of ``jax.nn`` set conventions at kinks; a note names those that are not JAX's own.

    Returns:
        A function of the arguments of ``f`` that returns a :class:`Comparison`, which is true if all agree.

    Some gradients are exactly 0, such as that of a bias before a normalisation or of the keys' bias in attention. What
    is computed in their place is rounding error, which differs between any two formulas: that of a sum of up to a few
    thousand terms as large as other gradients, whose errors add up like a random walk. In float64, therefore, the hand
    rule and backprop may differ from the reference, in leaf i, by up to

    .. math::
        \max\Big(\tau g_i,\;\; 32\, \epsilon \min\big(\max_j g_j,\; \max_j g_j l_j / l_i\big),\;\;
        4\, \epsilon\, |L| / \max(l_i, 1)\Big),

    with the tolerance :math:`\tau`, the largest entries :math:`g_j` of leaf j's gradient and :math:`l_j` of the leaf
    itself (1 for a leaf of zeros), the value L of the function, and the spacing :math:`\epsilon` of the dtype at 1. By
    the last term a slope does not count that would change no more than the last digits of the value. A leaf whose whole
    gradient is within the bound is "0 but for rounding" in the table. Narrower dtypes have too few digits to tell such
    leaves from small gradients: there the bound is :math:`\tau g_i` alone, and they fail.

    Raises:
        InputError: when no argument is floating point, when nothing that ``f`` returns is, and on a tolerance that is
            not positive or a negative number of coordinates.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3.003 * x * x * dy,))  # 0.1 % off
    >>> result = dlfn.compare(cube)(jnp.arange(1.0, 4.0))
    >>> result.ok, round(result.rows[0].hand, 6)
    (False, 0.001)
    """
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < math.inf):
        raise InputError(f"compare: tolerance is {tolerance!r}, and must be a positive number, or None")
    if not (isinstance(coordinates, int) and coordinates >= 0):
        raise InputError(f"compare: coordinates is {coordinates!r}, and must be an int that is 0 or more")

    try:
        floating = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise InputError(f"compare: dtype is {dtype!r}, and must be a floating-point dtype, such as 'float32', or None")

    @functools.wraps(f)
    def compared(*args: Any, **kwargs: Any) -> Comparison:
        wide = jnp.dtype(dtype or jnp.result_type(float)).itemsize == 8
        with jax.enable_x64(wide):
            return _compare(f, args, kwargs, dtype, tolerance, coordinates, seed, custom_jvp)

    return compared


def _compare(f, args, kwargs, dtype, tolerance, coordinates, seed, custom_jvp) -> Comparison:
    leaves, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
    values = [leaf for _, leaf in leaves]
    # A Python float that is given by keyword is configuration, as in jaxprs.trace.
    moving = [
        i for i, (path, leaf) in enumerate(leaves) if _is_float(leaf) and (path[0].idx == 0 or hasattr(leaf, "dtype"))
    ]
    if not moving:
        raise InputError("compare: no argument is a floating-point array, so there is no gradient to compare")
    names = [_leaf_name(f, leaves[i][0], len(args)) for i in moving]
    point = [jnp.asarray(values[i], dtype) for i in moving]

    def of_floats(point: Any) -> Any:
        full = list(values)
        for i, value in zip(moving, point, strict=True):
            full[i] = value
        args, kwargs = tree.unflatten(full)
        return f(*args, **kwargs)

    shapes = jax.eval_shape(of_floats, point)
    if not any(jnp.issubdtype(s.dtype, jnp.floating) for s in jax.tree.leaves(shapes)):
        raise InputError("compare: the function returns no floating-point array, so there is no gradient to compare")
    drawn = cotangents(shapes, seed)
    others = [None if c is None else -c for c in cotangents(shapes, (seed, 1))]  # that of a lone number: positive
    loss = projected(of_floats, drawn)
    # Where the function returns a single number, its gradient is shown without the cotangent, as jax.grad gives it.
    unit = float(drawn[0]) if len(drawn) == 1 and drawn[0] is not None and drawn[0].shape == () else 1.0

    def shown(gradient: Any) -> list[np.ndarray]:
        return [np.asarray(leaf, np.float64) / unit + 0.0 for leaf in gradient]  # no zero is negative

    computed = jnp.result_type(*point)
    wide = computed == jnp.float64
    if tolerance is None:
        tolerance = 1e-10 if wide else float(jnp.finfo(computed).eps) ** 0.5
    value, reference = jax.jit(jax.value_and_grad(autodiff(loss, custom_jvp=custom_jvp)))(point)
    our_value, *gradients = jax.jit(functools.partial(hand_gradients, of_floats))(point, drawn, others)
    notes = [] if custom_jvp else list(kept_rules(loss, point))
    walked: list[Any] | None = None
    try:
        walked = shown(jax.jit(backprop(loss))(point))
    except InputError as error:
        notes.append(f"not compared: {error}")
    rng = np.random.default_rng(seed)
    chosen = [np.sort(rng.permutation(x.size)[:coordinates]) for x in point]
    differences = finite_differences(loss, point, chosen) if wide and coordinates else None
    value, our_value = float(value) / unit, float(our_value) / unit
    reference, (hand, mixed, summed) = shown(reference), map(shown, gradients)
    scales = _scales(reference, point, value, tolerance)
    rows = []
    for i, name in enumerate(names):
        ours = {"hand rule": hand[i], **({"backprop": walked[i]} if walked else {})}
        numeric = (chosen[i], *(a / unit for a in differences[i])) if differences else None
        rows.append(_row(name, reference[i], ours, numeric, (mixed[i], summed[i]), scales[i], tolerance))
    result = Comparison(tuple(rows), relative_error(our_value, value), tolerance, str(computed), tuple(notes))
    if result:
        return result
    return dataclasses.replace(result, notes=(*notes, *advice(result, value, loss, dict(zip(names, point)))))


def _scales(reference: Sequence[Any], point: Sequence[jax.Array], value: float, tolerance: float) -> list[float]:
    """What the error of each leaf is relative to: the largest entry of its gradient, or the larger of the two rounding
    terms in the bound of :func:`compare`, divided by the tolerance, where that is more."""
    sizes, lengths = np.array([norm(leaf) for leaf in reference]), np.array([norm(x) or 1.0 for x in point])
    eps = float(jnp.finfo(jnp.result_type(*point)).eps)
    if eps > 1e-15 or not np.isfinite([*sizes, *lengths, value]).all():
        return sizes.tolist()
    # The products with the lengths of leaves keep a short leaf with a steep gradient, such as a variance near 0, from
    # loosening the bounds of the others.
    of_leaves = 32 * eps * np.minimum(np.max(sizes), np.max(sizes * lengths) / lengths)
    of_value = 4 * eps * abs(value) / np.maximum(lengths, 1.0)
    return np.maximum(sizes, np.maximum(of_leaves, of_value) / tolerance).tolist()


def _row(
    name: str, expected: np.ndarray, ours: dict[str, Any], numeric: Any, sides: Any, scale: float, tolerance: float
) -> Row:
    """``numeric``: the coordinates that finite differences tried, what they found, and how much of it is rounding.
    ``sides``: what a mixture of two cotangents gives, and the mixture of what each gives."""
    errors = {label: relative_error(got, expected, scale) for label, got in ours.items()}
    bounds = dict.fromkeys([*errors, LINEARITY], tolerance)
    errors[LINEARITY] = relative_error(*sides, scale=max(scale, norm(ours["hand rule"]), *map(norm, sides)))
    pairs = {label: (got, expected) for label, got in ours.items()} | {LINEARITY: sides}
    if numeric is not None:
        chosen, found, rounding = numeric
        errors[NUMERIC] = relative_error(found, expected.ravel()[chosen], scale)
        bounds[NUMERIC] = FINITE_DIFFERENCE_TOLERANCE + norm(rounding) / (scale or 1.0)
        everywhere = np.array(expected, np.float64)
        everywhere.flat[chosen] = found
        pairs[NUMERIC] = (everywhere, expected)
    share = {label: math.inf if error is None else error / bounds[label] for label, error in errors.items()}
    worst = max(share, key=share.__getitem__)
    if worst in (NUMERIC, LINEARITY) and share[worst] <= 1:  # within their bounds they would show nothing but rounding
        worst = "hand rule"
    return Row(
        path=name,
        shape=expected.shape,
        norm=norm(expected),
        scale=scale,
        hand=errors["hand rule"],
        backprop=errors.get("backprop"),
        finite_difference=errors.get(NUMERIC),
        linearity=errors[LINEARITY],
        worst=f"{worst} {worst_coordinate(*pairs[worst])}",
        ok=all(value <= 1 for value in share.values()),
    )


def _is_float(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _leaf_name(f: Any, path: Any, n_args: int) -> str:
    """The name of a leaf in the table, such as ``params['w']``; its argument is numbered where it has no name."""
    inside, *rest = path[1:]
    name = str(getattr(inside, "key", getattr(inside, "idx", "")))
    if path[0].idx == 0:
        try:
            positional = [p.name for p in inspect.signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        except (TypeError, ValueError):
            positional = []
        name = positional[inside.idx] if inside.idx < len(positional) else f"argument {inside.idx}"
    return name + jax.tree_util.keystr(tuple(rest))
