"""The verdict on a function's gradients: four opinions, and where they differ the rule that is wrong."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from dlfn.check.auditing import audit
from dlfn.check.calls import Audit
from dlfn.check.comparison import comparison
from dlfn.check.opinions import Setting, opinion, require_floating
from dlfn.check.result import Comparison
from dlfn.core import InputError

__all__ = ["compare"]


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
    require_floating("compare", dtype)
    setting = Setting(
        dtype, tolerance, coordinates, seed, custom_jvp, reference, seconds, order, probe, at_kinks, tuple(intended)
    )

    @functools.wraps(f)
    def compared(*args: Any, **kwargs: Any) -> Comparison:
        result = comparison(f, args, kwargs, setting)
        return result if result.ok else dataclasses.replace(result, audit=_audited(f, args, kwargs, setting, result))

    return compared


def _audited(f: Any, args: Any, kwargs: Any, setting: Setting, result: Comparison) -> Audit | None:
    """The audit of the rules in a function whose gradients do not agree, if there are any, and if it can be made."""
    own = result.dtype if result.dtype == "float64" else None
    made = audit(f, dtype=own, seed=setting.seed, probe=setting.probe, intended=setting.intended)
    found = opinion("audit", lambda: made(*args, **kwargs))
    return found if isinstance(found, Audit) and found.calls else None
