"""Auditing every hand-written rule that a function meets, each by itself, at the values that it got there."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.check.attribution import shares
from dlfn.check.calls import Audit, Call
from dlfn.check.judging import arriving, checked, probed
from dlfn.check.opinions import Setting, reason, require_floating
from dlfn.check.rules import has_rule
from dlfn.check.screening import Screen, tolerance
from dlfn.core import InputError, jaxprs
from dlfn.core.entering import Found
from dlfn.core.stripping import keeps

__all__ = ["audit"]


def audit(
    f: Callable[..., Any],
    *,
    dtype: Any = "float64",
    seed: int = 0,
    probe: bool = False,
    intended: Sequence[Callable[..., Any]] = (),
) -> Callable[..., Audit]:
    r"""Checks every hand-written rule that a function meets, by itself, and names those that are wrong.

    :func:`dlfn.compare` says that a gradient is wrong; this says whose rule is. ``f`` runs forwards once, and the
    values are kept that arrive at each function with a rule of its own: of ``jax.custom_vjp``, ``jax.custom_jvp``,
    ``jax.experimental.hijax``, or a :class:`dlfn.Op`, inside ``jit``, ``scan``, ``cond``, ``while_loop``, ``vmap``,
    ``checkpoint`` and ``shard_map`` too. At these values (in a scan: at every step that
    fits in memory; in a ``while_loop``: at the first, the worst and the last) the rule's value and its gradient
    in each argument, for random cotangents, are compared with those of autodiff of its definition; and the gradient
    must be linear in the cotangent. A rule that is told which of its arguments and outputs matter, by
    ``symbolic_zeros``, is tried with each alone. What differs is judged once more by finite
    differences, which may be with the rule and not with the definition's derivative. Any convention at a kink passes.
    A rule that cannot be checked by itself (complex numbers, a value that it closes over) is named as such.

    Args:
        f: the function; it need not know of dlfn. JAX's own rules are not audited.
        dtype: floating-point arguments are cast to it, None leaves them as they are. What cannot run in float64 is
            audited in the arguments' own dtype.
        seed: that of the random cotangents.
        probe: whether to try other values at every rule too, made of those that it got, at which rules have been wrong
            that are right at ordinary ones: ties, zeros, an empty group, a row of -inf, …; see :func:`dlfn.compare`.
        intended: functions whose rules are meant not to be the slope of their values, and are left out.

    Returns:
        A function of the arguments of ``f`` that returns an :class:`Audit`, which is true if all rules are right. It
        names each wrong rule, where it is defined and where it is called, in which step of a loop, in which argument
        and coordinate, how much of the error of the whole gradient it explains, and a program that shows it alone.

    Raises:
        InputError: when ``f`` cannot be traced, as where its Python code depends on the values of arguments.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3.003 * x * x * dy,))  # 0.1 % off
    >>> @jax.jit
    ... def f(x):
    ...     return jax.lax.scan(lambda c, _: (jnp.sin(cube(c)), None), x, length=3)[0]
    >>> result = dlfn.audit(f)(jnp.arange(1.0, 4.0))
    >>> (call,) = result.failures
    >>> result.ok, call.rule.name, call.inside.startswith("scan step"), round(call.error, 6)
    (False, 'cube', True, 0.001)
    """

    require_floating("audit", dtype)
    setting = Setting(dtype=dtype, seed=seed, probe=probe, intended=tuple(intended))

    @functools.wraps(f)
    def audited(*args: Any, **kwargs: Any) -> Audit:
        if dtype is None:
            return _audit(f, args, kwargs, dataclasses.replace(setting, dtype=None))
        with jax.enable_x64(jnp.dtype(dtype).itemsize == 8):
            try:
                return _audit(f, args, kwargs, setting)
            except Exception as error:
                if jnp.dtype(dtype) != jnp.float64:
                    raise
                why = reason(error)
        try:
            result = _audit(f, args, kwargs, dataclasses.replace(setting, dtype=None))
        except Exception:
            raise InputError(f"audit: the function cannot be traced. {why}") from None
        note = f"float64: not available: {why}; audited in the arguments' own dtype"
        return dataclasses.replace(result, notes=(note, *result.notes))

    return audited


def _audit(f: Any, args: Any, kwargs: Any, setting: Setting) -> Audit:
    seed = setting.seed
    cast = functools.partial(_cast, dtype=setting.dtype)
    jaxpr, inputs, _, _ = jaxprs.trace(f, jax.tree.map(cast, args), jax.tree.map(cast, kwargs))
    inputs = [jnp.asarray(x) for x in inputs]
    kept = keeps(setting.intended)
    found, left = arriving(jaxpr, inputs, lambda eqn: has_rule(eqn) and not kept(eqn))
    screen = Screen(seed)
    calls = [checked(one, screen, seed) for one in found]
    if setting.probe:
        calls = [probed(call, one, seed) for call, one in zip(calls, found, strict=True)]
    notes = [f"rules inside {name} were not looked for" for name in left]
    calls, error = _attributed(jaxpr, inputs, found, calls, seed, notes)
    computed = {x.dtype for one in found for x in one.value if jnp.issubdtype(x.dtype, jnp.floating)}
    described = " and ".join(f"{d}, to {_judged_to(d)}" for d in sorted(computed, key=str))
    return Audit(tuple(calls), described or str(jnp.result_type(float)), error, tuple(notes))


def _judged_to(dtype: Any) -> str:
    return f"{tolerance(0.0):.1g}" if dtype == jnp.float64 else "what rounding may change"


def _cast(leaf: Any, dtype: Any) -> Any:
    if dtype is not None and hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(leaf, dtype)
    return leaf


def _attributed(
    jaxpr: Any, inputs: Sequence[Any], found: Sequence[Found], calls: list[Call], seed: int, notes: list[str]
) -> tuple[list[Call], float | None]:
    """The calls, of which the wrong ones have their share in the error of the whole gradient, and that error."""
    wrong = [i for i, call in enumerate(calls) if not call.ok and not call.nested]
    if not wrong:
        return calls, None
    try:
        each, total = shares(jaxpr, inputs, [found[i].place for i in wrong], seed)
    except Exception as error:
        notes.append(f"how much each wrong rule explains is not available: {reason(error)}")
        return calls, None
    calls = list(calls)
    for i, share in zip(wrong, each, strict=True):
        calls[i] = dataclasses.replace(calls[i], share=share)
    return calls, total
