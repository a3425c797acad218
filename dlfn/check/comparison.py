"""Comparing gradients: by hand rule, by backprop, by autodiff of the definitions, by finite differences."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.advice import advice
from dlfn.check.measures import relative_error
from dlfn.check.opinions import Setting, gather, reason
from dlfn.check.result import Comparison
from dlfn.check.rows import rows
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
        reference: a function of the same arguments with the same outputs, whose autodiff is the reference instead of
            that of the definitions: plain JAX beside a kernel.

    Returns:
        A function of the arguments of ``f`` that returns a :class:`Comparison`, which is true if all agree.

    Each of the four may be missing: autodiff of a definition with a ``while_loop``, say, or backprop where a primitive
    has no rule. A note says which, why, and at which line, and the verdict stands on the others. Without autodiff of
    the definitions, the hand rule stands or falls with finite differences. Where these agree with the hand rule and not
    with the definition's autodiff, at the coordinates where the two differ most, the definition is at fault (as that of
    sin(x) / x at 0 is), which the table says. A function that cannot run in float64 is compared in its own dtype.

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
        InputError: when no argument is floating point, when nothing that ``f`` returns is, when there is neither a hand
            rule's gradient nor a reference's, on a reference with other outputs, and on a tolerance that is not
            positive or a negative number of coordinates.

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

    def in_dtype(dtype: Any, args: Any, kwargs: Any) -> Comparison:
        wide = jnp.dtype(dtype or jnp.result_type(float)).itemsize == 8
        with jax.enable_x64(wide):
            return _compare(f, args, kwargs, Setting(dtype, tolerance, coordinates, seed, custom_jvp, reference))

    @functools.wraps(f)
    def compared(*args: Any, **kwargs: Any) -> Comparison:
        try:
            return in_dtype(dtype, args, kwargs)
        except Exception as error:
            narrow = [leaf for leaf in jax.tree.leaves((args, kwargs)) if _is_float(leaf)]
            if dtype != "float64" or not narrow or all(jnp.result_type(leaf) == jnp.float64 for leaf in narrow):
                raise
            try:
                result = in_dtype(None, args, kwargs)
            except Exception:
                raise error from None
            note = f"float64: not available: {reason(error)}; compared in the arguments' own dtype"
            return dataclasses.replace(result, notes=(note, *result.notes))

    return compared


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

    computed = jnp.result_type(*point)
    if setting.tolerance is None:
        wide = computed == jnp.float64
        setting = dataclasses.replace(setting, tolerance=1e-10 if wide else float(jnp.finfo(computed).eps) ** 0.5)
    truth = None if setting.reference is None else functools.partial(of_floats, setting.reference)
    found = gather(functools.partial(of_floats, f), truth, point, setting)
    result = Comparison(
        tuple(rows(names, point, found, setting.tolerance)),
        relative_error(found.our_value, found.value),
        setting.tolerance,
        str(computed),
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
    more = advice(result, found.value, found.loss, dict(zip(names, point)))
    return dataclasses.replace(result, notes=(*result.notes, *more))


def _is_float(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.floating)


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
