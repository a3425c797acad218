r"""Calculus: derivative rules on pairs (f, f′), derivatives of functions of several variables, finite differences.

The rules are those of the sheet that :func:`dlfn.backprop` reads (:mod:`dlfn.core.rules`): each asks its primitive's
row for the partial derivatives and adds :math:`\sum_i \partial f / \partial u_i \cdot u_i'`.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core import InputError, backprop, backprop_vjp
from dlfn.core.rules import RULES

__all__ = [
    "Pair", "chain", "cos", "directional", "exp", "finite_difference", "gradient", "jacobian", "log", "partial",
    "power", "product", "quotient", "sin", "variable",
]  # fmt: skip


class Pair(NamedTuple):
    """A function's value and its derivative, at one point or an array of points."""

    value: Any
    slope: Any


def variable(x: Any) -> Pair:
    """x itself, whose derivative is 1.

    >>> print(*variable(3.0))
    3.0 1.0
    """
    x = _array("variable", x)
    return Pair(x, jnp.ones_like(x))


def power(u: Pair, n: float) -> Pair:
    r""":math:`(u^n)' = n u^{n-1} u'`, for an integer or real n. Source: 000 section 1, 004 calculus.

    >>> print(*power(variable(2.0), 3))
    8.0 12.0
    """
    if float(n).is_integer():
        return _by_rule("integer_pow", functools.partial(lax.integer_pow, y=int(n)), u, y=int(n))
    return _by_rule("pow", jnp.power, u, Pair(jnp.full_like(u.value, n), jnp.zeros_like(u.value)))


def product(u: Pair, v: Pair) -> Pair:
    r""":math:`(uv)' = u'v + uv'`. Source: 000 section 1.

    >>> print(*product(variable(2.0), sin(variable(0.0))))
    0.0 2.0
    """
    return _by_rule("mul", jnp.multiply, u, v)


def quotient(u: Pair, v: Pair) -> Pair:
    r""":math:`(u/v)' = (u'v - uv') / v^2`. Source: 000 section 1.

    >>> print(*quotient(Pair(1.0, 0.0), variable(2.0)))
    0.5 -0.25
    """
    return _by_rule("div", jnp.divide, u, v)


def chain(f: Callable[[Pair], Pair], g: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    r""":math:`f \circ g`, whose derivative is :math:`f'(g)\, g'`. Source: 000 section 1, 004 calculus.

    >>> print(*chain(exp, sin)(variable(0.0)))
    1.0 1.0
    """
    return lambda u: f(g(u))


def sin(u: Pair) -> Pair:
    r""":math:`\sin' u = \cos(u)\, u'`. Source: 000 section 2, 004 calculus."""
    return _by_rule("sin", jnp.sin, u)


def cos(u: Pair) -> Pair:
    r""":math:`\cos' u = -\sin(u)\, u'`. Source: 000 section 2."""
    return _by_rule("cos", jnp.cos, u)


def exp(u: Pair) -> Pair:
    r""":math:`(e^u)' = e^u u'`. Source: 000 section 2, 004 calculus."""
    return _by_rule("exp", jnp.exp, u)


def log(u: Pair) -> Pair:
    r""":math:`(\log u)' = u' / u`. Source: 000 section 2, 004 calculus."""
    return _by_rule("log", jnp.log, u)


def _by_rule(primitive: str, f: Callable[..., Any], *us: Pair, **params: Any) -> Pair:
    values = [_array(primitive, u.value) for u in us]
    y = f(*values)
    rule = RULES[primitive]
    assert rule is not None
    partials = rule(jnp.ones_like(y), y, *values, **params)
    partials = partials if isinstance(partials, tuple) else (partials,)
    return Pair(y, functools.reduce(jnp.add, [p * u.slope for p, u in zip(partials, us, strict=True)]))


def gradient(f: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    r""":math:`\nabla f = [\partial f / \partial x_1, \dots]`: the partial derivatives in all arguments.

    Source: 000 section 4, 004 calculus.

    >>> f = lambda x, y: (3 * x + 4 * y - 5) ** 2
    >>> print(*gradient(f)(1.0, 2.0))  # 6 (3x + 4y − 5), 8 (3x + 4y − 5)
    36.0 48.0
    """
    return lambda *xs: backprop(f, tuple(range(len(xs))))(*_arrays("gradient", xs))


def partial(f: Callable[..., Any], i: int) -> Callable[..., Any]:
    r""":math:`\partial f / \partial x_i`, arguments counted from 0. Source: 000 section 4, 004 calculus.

    >>> print(partial(lambda x, y: x * y**2, 1)(3.0, 2.0))
    12.0
    """
    return lambda *xs: backprop(f, i)(*_arrays("partial", xs))


def directional(f: Callable[..., Any]) -> Callable[..., Any]:
    r"""``directional(f)(x, v)``: :math:`D_v f = \nabla f \cdot v`, for v of any length. Source: 004 calculus.

    >>> x, v = jnp.array([1.0, 2.0]), jnp.array([0.6, 0.8])
    >>> print(directional(lambda x: (3 * x[0] + 4 * x[1] - 5) ** 2)(x, v))
    60.0
    """

    def along(x: Any, v: Any) -> Any:
        if jnp.shape(x) != jnp.shape(v):
            raise InputError(f"directional: v has shape {jnp.shape(v)}, and must have that of x, {jnp.shape(x)}")
        x, v = _arrays("directional", (x, v))
        return jnp.vdot(backprop(f)(x), v)

    return along


def jacobian(f: Callable[..., Any]) -> Callable[..., Any]:
    r""":math:`J_{ij} = \partial y_i / \partial x_j` of an array in an array, in the shape (*shape of y, *shape of x).

    Row i is the gradient of :math:`y_i`, so :math:`\partial L / \partial x = J^\top \partial L / \partial y` (numerator
    layout). Of an elementwise function it is diagonal. Source: 004 calculus, 002 section 12.

    >>> print(jacobian(lambda x: x**2)(jnp.array([1.0, 2.0])))
    [[2. 0.]
     [0. 4.]]
    """

    def rows(x: Any) -> Any:
        x = _array("jacobian", x)
        y, back = backprop_vjp(f, x)
        unit = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        return jax.vmap(lambda dy: back(dy)[0])(unit).reshape(*y.shape, *x.shape)

    return rows


_METHODS = {"forward": 1, "central": 2, "complex": 2}


def finite_difference(
    f: Callable[..., Any], *, method: str = "central", step: float | None = None, richardson: int = 0
) -> Callable[..., Any]:
    r"""``finite_difference(f)(x)``: f′(x) of an elementwise f by the limit :math:`\lim_{h \to 0} (f(x+h) - f(x)) / h`.

    =========  ================================== ===========  =========================================================
    method     formula                            error        step h, unless given, times max(1, \|x\|)
    =========  ================================== ===========  =========================================================
    forward    :math:`(f(x+h) - f(x)) / h`        O(h)         :math:`\epsilon^{1/2}`: truncation against rounding ε/h
    central    :math:`(f(x+h) - f(x-h)) / 2h`     O(h²)        :math:`\epsilon^{1/3}`
    complex    :math:`\mathrm{Im} f(x+ih) / h`    O(h²)        the smallest normal number's root: nothing is subtracted
    =========  ================================== ===========  =========================================================

    Args:
        f: for ``complex``, analytic: :func:`jax.numpy.sin` will do, :func:`jax.numpy.abs` will not.
        richardson: how often to extrapolate to h = 0 from h, h/2, h/4, …: each cancels one more term of the error, and
            the first h is larger to match. Not for ``complex``, which has no error left.

    Raises:
        InputError: on an unknown method, a step that is not positive, and extrapolation of ``complex``.

    Source: 004 calculus; Squire & Trapp 1998, *Using Complex Variables to Estimate Derivatives of Real Functions*.

    >>> print(f"{finite_difference(jnp.sin, method='complex')(1.0):.6f} {jnp.cos(1.0):.6f}")
    0.540302 0.540302
    """
    if method not in _METHODS:
        raise InputError(f"finite_difference: method is {method!r}, and must be 'forward', 'central' or 'complex'")
    if step is not None and not step > 0:
        raise InputError(f"finite_difference: step is {step!r}, and must be a positive number")
    if method == "complex" and richardson:
        raise InputError("finite_difference: the complex step has no error to extrapolate; leave richardson out")

    def slope(x: Any) -> Any:
        x = _array("finite_difference", x)
        h = (_step(method, richardson, x.dtype) if step is None else step) * jnp.maximum(1, jnp.abs(x))
        if method == "complex":
            return jnp.imag(f(lax.complex(x, h))) / h
        return _extrapolated([_quotient(f, method, x, h / 2**k) for k in range(richardson + 1)], _METHODS[method])

    return slope


def _step(method: str, richardson: int, dtype: Any) -> float:
    info = jnp.finfo(dtype)
    if method == "complex":
        return float(info.smallest_normal) ** 0.5
    # The error that is left is of this order in h, and rounding is eps / h: they are equal at this h.
    order = _METHODS[method] * (richardson + 1)
    return float(info.eps) ** (1 / (1 + order)) * 2**richardson / (2 if richardson else 1)


def _quotient(f: Callable[..., Any], method: str, x: Any, h: Any) -> Any:
    above = x + h
    below = x - h if method == "central" else x
    return (f(above) - f(below)) / (above - below)  # the step as it was rounded


def _extrapolated(estimates: Sequence[Any], order: int) -> Any:
    """Richardson's table: with errors of h^order, h^(2 order) or, for one-sided differences, of every power."""
    table, k = list(estimates), 1
    while len(table) > 1:
        factor = 2 ** (order * k)
        table = [(factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(table)]
        k += 1
    return table[0]


def _array(op: str, x: Any) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{op}: the point is {x.dtype}{list(x.shape)}, and must be floating point; pass 1.0 for 1")
    return x


def _arrays(op: str, xs: Sequence[Any]) -> list[jax.Array]:
    return [_array(op, x) for x in xs]
