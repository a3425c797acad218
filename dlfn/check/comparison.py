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
    """One leaf. ``norm`` is ‖autodiff‖∞. Errors are ‖ours − autodiff‖∞ / ``scale``, which is the norm but for leaves
    that are 0 but for rounding; None where something is not finite or was not computed. ``linearity`` is how far the
    hand rule is from linear in its cotangent, relative to the terms."""

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
    third is the reference. Each is multiplied by a seeded random cotangent; of a function that returns one number what
    is shown is divided by it again, and so is its gradient. That the hand rule is linear in its cotangent,
    :math:`vjp(a u + b v) = a\, vjp(u) + b\, vjp(v)`, as every derivative is, is a check of its own.

    Args:
        f: the function; it need not know of dlfn.
        dtype: floating-point arguments are cast to it; in float64 (the default, whatever ``jax_enable_x64`` says) a
            rule that is wrong by 0.01 % in one coordinate cannot hide behind rounding. None leaves them as they are.
        tolerance: relative to the largest entry of each leaf's gradient; by default 1e-10 in float64. Narrower dtypes
            have the square root of their spacing, and no finite differences, for which they are too coarse.
        coordinates: how many coordinates of each leaf finite differences try, drawn at random; 0 leaves them out.
        seed: of the cotangent and the coordinates.
        custom_jvp: whether the reference is without the rules of ``jax.custom_jvp`` too. By default it has them, as
            those of ``jax.nn`` set conventions at kinks; a note names those that are not JAX's own.

    Returns:
        A function of the arguments of ``f`` that returns a :class:`Comparison`, which is true if all agree.

    Some gradients are 0, such as that of a bias before a normalisation or of the keys' bias in attention. What is
    computed of them is rounding, which no two formulas share: sums of up to a few thousand terms as large as other
    gradients, whose rounding errors add up like a random walk. So in float64 no leaf has to agree better than to 32
    units of rounding, :math:`\epsilon`, of the largest entry g of all leaves' gradients, or of the largest g times l of
    a leaf over its own l, if that is less, with l a leaf's largest entry. Nor better than to :math:`4 \epsilon |L|`,
    with L the value: such a slope changes no more of it than its last digit. Leaves whose whole gradient is below that
    are "0 but for rounding" in the table. Narrower dtypes have too few digits to tell them from small gradients: there
    they fail.

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
    # A float by keyword is configuration, as jaxprs.trace has it.
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
    others = [None if c is None else -c for c in cotangents(shapes, (seed, 1))]  # a number's has the other sign
    loss = projected(of_floats, drawn)
    # The gradient of a lone number is shown as jax.grad has it.
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
    """What the error of each leaf is relative to: its largest entry, unless the tolerance of that is below rounding."""
    sizes, lengths = np.array([norm(leaf) for leaf in reference]), np.array([norm(x) or 1.0 for x in point])
    eps = float(jnp.finfo(jnp.result_type(*point)).eps)
    if eps > 1e-15 or not np.isfinite([*sizes, *lengths, value]).all():
        return sizes.tolist()
    # A steep leaf that is short, as a variance near 0, has no part in the rounding of the others.
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
    if worst in (NUMERIC, LINEARITY) and share[worst] <= 1:  # only rounding would show
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
    """``params['w']`` where the signature tells the argument's name."""
    inside, *rest = path[1:]
    name = str(getattr(inside, "key", getattr(inside, "idx", "")))
    if path[0].idx == 0:
        try:
            positional = [p.name for p in inspect.signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        except (TypeError, ValueError):
            positional = []
        name = positional[inside.idx] if inside.idx < len(positional) else f"argument {inside.idx}"
    return name + jax.tree_util.keystr(tuple(rest))
