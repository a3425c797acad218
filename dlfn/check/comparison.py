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

from dlfn.check.advice import advice
from dlfn.check.measures import relative_error
from dlfn.check.opinions import Setting, derivatives, gather, reason, unlike_itself
from dlfn.check.precision import leaves_float64
from dlfn.check.probing import probed
from dlfn.check.result import Comparison
from dlfn.check.rows import rows, value_bound
from dlfn.core import InputError

__all__ = ["compare", "leaf_name"]


def compare(
    f: Callable[..., Any],
    *,
    dtype: Any = "float64",
    tolerance: float | None = None,
    coordinates: int = 32,
    seed: int = 0,
    custom_jvp: bool = False,
    reference: Callable[..., Any] | None = None,
    seconds: float | None = None,
    order: int = 1,
    probe: bool = False,
    at_kinks: str = "any",
    intended: Sequence[Callable[..., Any]] = (),
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
            In narrower dtypes the reference is what the definitions would give without rounding, at the same inputs.
        tolerance: relative to the largest entry of each leaf's gradient. By default it is 1e-10 in float64, and what
            rounding may change in narrower dtypes. Those are too coarse for finite differences, which are left out.
        coordinates: at how many coordinates of a leaf, drawn at random, finite differences are taken where those along
            two random directions do not agree, or where there is no autodiff of the definitions; 0 leaves all out.
        seed: that of the random cotangents, directions and coordinates.
        custom_jvp: whether the rules of ``jax.custom_jvp`` are stripped from the reference too. By default they are
            not, because those of ``jax.nn`` set conventions at kinks; a note names those that are not JAX's own.
        reference: a function of the same arguments with the same outputs, whose autodiff is the reference instead of
            that of the definitions: plain JAX beside a kernel.
        seconds: after so many, what was not begun is left out, and a note says what.
        order: 2 compares the derivative of the gradient's product with a random vector too, which JAX takes by
            differentiating the rules.
        probe: whether to try other inputs too, where these agree: some hundred at which rules have been wrong that are
            right at ordinary ones, such as ties, zeros, an empty group, a row of -inf, decays near 1, one more axis, an
            odd size, cotangents of several kinds. They are made of the arguments, in float64, and those count at which
            the definition's gradient is finite. The first at which the hand rule differs fails the comparison.
        at_kinks: what a probe at a kink accepts of a rule: "any" convention (any number between the slopes on both
            sides, such as an even split among ties, or all to the first), or that of the "definition" alone.
        intended: functions whose rules are meant not to be the slope of their values, such as straight-through
            estimators: each an Op, or made by ``jax.custom_vjp`` or ``jax.custom_jvp``. They are not judged, and
            finite differences, which would judge them, are left out.

    Returns:
        A function of the arguments of ``f`` that returns a :class:`Comparison`, which is true if all agree.

    Each of the four may be missing: autodiff of a definition with a ``while_loop``, say, or backprop where a primitive
    has no rule. A note says which, why, and at which line, and the verdict stands on the others. Without autodiff of
    the definitions, the hand rule stands or falls with finite differences. Where these agree with the hand rule and not
    with the definition's autodiff, at the coordinates where the two differ most, the definition is at fault (as that of
    sin(x) / x at 0 is), which the table says. A function that cannot run in float64, or rounds to a narrower dtype
    within, is compared in its own dtype, and a note says where. A backward pass whose cotangents have other dtypes than
    its arguments fails, for JAX accepts any.

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
    gradient is within the bound is "0 but for rounding" in the table.

    In narrower dtypes rounding itself is measured, as :mod:`dlfn.check.rounding` explains: the definitions' gradient is
    computed in float64, and eight times more with a random error of up to the rounding unit u at every equation. By how
    much these differ, M, bounds what the hand rule and backprop may be off in any entry of many,
    :math:`3 M + 2 u g_i`. Two figures of the leaf as a whole have bounds of their own, so that neither a wrong factor
    nor a sum in a half type can hide behind the rounding of single entries. ``Row.hidden`` says which wrong factor
    still could.

    Raises:
        InputError: when no argument is floating point, when nothing that ``f`` returns is, when there is neither a hand
            rule's gradient nor a reference's, on a reference with other outputs, when the function itself raises, when
            two equal calls differ, and on a setting that is not what it must be.

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
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise InputError(f"compare: seconds is {seconds!r}, and must be a positive number, or None")
    if order not in (1, 2):
        raise InputError(f"compare: order is {order!r}, and must be 1, or 2 for the rules' own derivatives too")
    if at_kinks not in ("any", "definition"):
        raise InputError(f"compare: at_kinks is {at_kinks!r}, and must be 'any' or 'definition'")
    try:
        floating = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise InputError(f"compare: dtype is {dtype!r}, and must be a floating-point dtype, such as 'float32', or None")

    setting = Setting(
        dtype, tolerance, coordinates, seed, custom_jvp, reference, seconds, order, probe, at_kinks, tuple(intended)
    )

    def run(setting: Setting, args: Any, kwargs: Any) -> Comparison:
        wide = jnp.dtype(setting.dtype or jnp.result_type(float)).itemsize == 8
        with jax.enable_x64(wide):
            return _compare(f, args, kwargs, setting)

    @functools.wraps(f)
    def compared(*args: Any, **kwargs: Any) -> Comparison:
        floats = [leaf for leaf in jax.tree.leaves((args, kwargs)) if _is_float(leaf)]
        narrow = any(jnp.result_type(leaf) != jnp.float64 for leaf in floats)
        try:
            return run(setting, args, kwargs)
        except _InNarrowDtypes as found:
            why = found.where
            result = run(dataclasses.replace(setting, dtype=None, rounded=True), args, kwargs)
        except Exception as error:
            failure = error if isinstance(error, InputError) else InputError(f"compare: {reason(error)}")
            if dtype != "float64" or not narrow:
                raise failure from error
            why = f"not available: {reason(error)}"
            try:
                result = run(dataclasses.replace(setting, dtype=None), args, kwargs)
            except Exception:
                raise failure from error
        note = f"float64: {why}; compared in the arguments' own dtype"
        return dataclasses.replace(result, notes=(note, *result.notes))

    return compared


class _InNarrowDtypes(Exception):
    """What failed to agree in float64 is computed in a narrower dtype."""

    def __init__(self, where: str):
        super().__init__(where)
        self.where = where


def _compare(f: Any, args: Any, kwargs: Any, setting: Setting) -> Comparison:
    leaves, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
    values = [leaf for _, leaf in leaves]
    # A Python float that is given by keyword is configuration, as in jaxprs.trace.
    moving = [
        i for i, (path, leaf) in enumerate(leaves) if _is_float(leaf) and (path[0].idx == 0 or hasattr(leaf, "dtype"))
    ]
    if not moving:
        raise InputError("compare: no argument is a floating-point array, so there is no gradient to compare")
    names = [leaf_name(f, leaves[i][0], len(args)) for i in moving]
    point = [jnp.asarray(values[i], setting.dtype) for i in moving]

    def of_floats(function: Callable[..., Any], point: Any) -> Any:
        full = list(values)
        for i, value in zip(moving, point, strict=True):
            full[i] = value
        args, kwargs = tree.unflatten(full)
        return function(*args, **kwargs)

    rounded = setting.rounded or jnp.result_type(*point) != jnp.float64
    setting = dataclasses.replace(setting, rounded=rounded, tolerance=setting.tolerance or (None if rounded else 1e-10))
    ours = functools.partial(of_floats, f)
    truth = None if setting.reference is None else functools.partial(of_floats, setting.reference)
    result = _judged(ours, truth, names, point, setting)
    if setting.order == 2:
        result = _joined(result, _judged(*derivatives(ours, truth, point, setting), names, point, setting))
    if result and setting.probe:
        arrays = [i for i, leaf in enumerate(values) if i in moving or _is_array(leaf)]
        labels = [leaf_name(f, leaves[i][0], len(args)) for i in arrays]
        cast = dict(zip(moving, point, strict=True))

        def of_arrays(function: Callable[..., Any], given: Any) -> Any:
            new = dict(zip(arrays, given, strict=True))
            args, kwargs = tree.unflatten([new.get(i, leaf) for i, leaf in enumerate(values)])
            return function(*args, **kwargs)

        of_ours, of_theirs = (functools.partial(of_arrays, function) for function in (f, setting.reference or f))
        result = probed(result, of_ours, of_theirs, [cast.get(i, values[i]) for i in arrays], labels, setting)
    return result


def _judged(f: Any, truth: Any, names: list[str], point: list[jax.Array], setting: Setting) -> Comparison:
    """The comparison of a function of a list of arrays; ``truth`` is the reference, or None."""
    found = gather(f, truth, point, setting)
    result = Comparison(
        tuple(rows(names, point, found, setting.tolerance)),
        relative_error(found.our_value, found.value),
        value_bound(point, found, setting.tolerance),
        setting.tolerance,
        str(jnp.result_type(*point)),
        tuple(found.notes),
        found.reference,
    )
    wrong = [f"{row.path}{row.culprit}" for row in result.rows if row.culprit]
    if wrong:
        note = (
            "hand rule and finite differences agree, and the definition's own derivative does not, at "
            f"{', '.join(wrong)}: the definition is at fault, not the rule"
        )
        result = dataclasses.replace(result, notes=(*result.notes, note))
    if result or found.hand is None:
        return result
    if found.types:
        return result
    if np.isfinite(found.value) and (difference := unlike_itself(found.loss, point)) > _largest_bound(result):
        raise InputError(
            f"compare: two equal calls differ by {difference:.1g} of the value or a gradient, so there is no one "
            "gradient to compare; give the function its random numbers, or its key, as an argument"
        )
    if not setting.rounded and np.isfinite(found.value) and (where := leaves_float64(found.loss, point)):
        raise _InNarrowDtypes(where)
    more = advice(result, found.value, dict(zip(names, point)))
    return dataclasses.replace(result, notes=(*result.notes, *more))


def _largest_bound(result: Comparison) -> float:
    return max(result.value_bound, *(row.bound for row in result.rows))


def _joined(first: Comparison, second: Comparison) -> Comparison:
    """Both as one, with the rows of the second derivative after the others."""
    below = [dataclasses.replace(row, path=f"2nd order: {row.path}") for row in second.rows]
    notes = [f"2nd order: {note}" for note in second.notes if note not in first.notes]
    worse = first if not first.value_ok or second.value_ok else second
    return dataclasses.replace(
        first,
        rows=(*first.rows, *below),
        notes=(*first.notes, *notes),
        value_error=worse.value_error,
        value_bound=worse.value_bound,
    )


def _is_float(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def leaf_name(f: Any, path: Any, n_args: int) -> str:
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
