r"""Powers, with derivatives of any order.

All derivatives of :math:`x^n` are sums of terms :math:`q(n)\, x^{n-m} \log^j x`, where q is a product of differences
:math:`q(n) = \prod_r (n - r)`, because the derivatives of such a term are sums of such terms too:

.. math::
    \frac{\partial}{\partial x} = (n - m)\, q\, x^{n-m-1} \log^j x + j\, q\, x^{n-m-1} \log^{j-1} x, \qquad
    \frac{\partial}{\partial n} = q'\, x^{n-m} \log^j x + q\, x^{n-m} \log^{j+1} x.

Every mixed derivative is therefore the same sum in whichever order it is taken, and a term with q = 0 is 0 even where
its power is infinite or nan.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Float, Real

from dlfn.ops.elementary._of_two import of_two

__all__ = ["power"]


def _slopes(x, n, y):
    return _slope_in_base(x, n, y), None if jnp.issubdtype(n.dtype, jnp.integer) else _slope_in_exponent(x, n, y)


@of_two(jnp.power, _slopes, integer=True, of_value=True)
def power(base: Float[ArrayLike, "*#shape"], exponent: Real[ArrayLike, "*#shape"]) -> Float[Array, "*shape"]:
    r"""Power, :math:`y = x^n`.

    Derivatives: :math:`n x^{n-1}` in the base, computed as :math:`n y / x` for those n for which n - 1 would be
    rounded, and :math:`x^n \log x` in the exponent. At the corners:

    =============  ===========================  ==========================  ============================================
    base           value                        slope in the base           slope in the exponent
    =============  ===========================  ==========================  ============================================
    0, n = 0       1                            0                           0, by convention: 0ⁿ jumps there
    0, n > 0       0                            0, 1, +∞ for n >, =, < 1    0
    0, n < 0       +∞                           −∞                          −∞
    below 0        of a whole n: :math:`x^n`    :math:`n x^{n-1}`           nan: for other n there is no value
    below 0        of another n: nan            nan                         nan
    =============  ===========================  ==========================  ============================================

    The slope :math:`+\infty` of n < 1 is the limit; that of :func:`sqrt` at 0 is 0, by convention. In derivatives of
    higher order too :math:`0^0 \log 0` counts as 0, as in the mixed one, :math:`x^{n-1} (1 + n \log x)`, at (0, 1).

    Args:
        base: floating point, any shape.
        exponent: floating point, or integer, for which there is no gradient; broadcasts against base.

    Returns:
        The shape that both broadcast to, in their common dtype, or in that of base for an integer exponent.

    Raises:
        InputError: on an integer base, and shapes that do not broadcast.

    Source: 000 section 1, 004 calculus; ``jax.numpy.power``, ``torch.pow``.

    >>> import jax
    >>> print(power(2.0, 3.0), *jax.grad(power, (0, 1))(2.0, 3.0), *jax.grad(power, (0, 1))(0.0, 0.0))
    8.0 12.0 5.5451775 0.0 0.0
    """
    return jnp.power(base, exponent)


class _Term(NamedTuple):
    """The term q(n) x^(n - m) log^j x, given by the numbers r in q, by m and by j."""

    roots: tuple[int, ...]
    m: int
    j: int

    def slopes(self, i: int) -> list["_Term"]:
        """The terms whose sum is the derivative of this one: in x for i = 0, in n for i = 1."""
        roots, m, j = self
        if i == 0:
            return [_Term((*roots, m), m + 1, j)] + [_Term(roots, m + 1, j - 1)] * j
        return [_Term((*roots[:k], *roots[k + 1 :]), m, j) for k in range(len(roots))] + [_Term(roots, m, j + 1)]


# Of the rules below those of derivatives are run when something is differentiated, outside of the op, and may then mix
# an integer n with floats as well.
_mixing = jax.numpy_dtype_promotion("standard")


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
@_mixing
def _value(x, n, term):
    roots, m, j = term
    y = jnp.power(x, n - m)
    y = _times_log(x, n - m, y, j) if j else y
    q = math.prod(((n - r).astype(x.dtype) for r in roots), start=jnp.ones_like(x))
    # 0 by convention at (0, 0), because 0^n jumps from 0 to 1 there.
    return jnp.where((q == 0) | ((x == 0) & (n == 0)), jnp.zeros_like(y), q * y)


def _times_log(x, n, y, j):
    """y log^j x, given y = x^n. At x = 0 it is the limit, which for n > 0 is 0; for n = 0 it is 0 by convention, not
    -∞, which would make the whole of a hessian nan where forward mode multiplies it by a tangent of 0."""
    return y * jnp.log(jnp.where((y == 0) | ((n == 0) & (x == 0)), jnp.ones_like(x), x)) ** j


def _moved(x, n, term, value, tangents):
    """The tangent of a term. An argument without a tangent adds nothing to it, rather than 0 times its slope, because
    the slope in the exponent is nan for a base below 0."""
    parts = [
        functools.reduce(jnp.add, [_value(x, n, slope) for slope in term.slopes(i)]) * dot
        for i, dot in enumerate(tangents)
        if not isinstance(dot, SymbolicZero)
    ]
    return functools.reduce(jnp.add, parts) if parts else jnp.zeros_like(value)


@functools.partial(_value.defjvp, symbolic_zeros=True)
@_mixing
def _value_jvp(term, primals, tangents):
    x, n = primals
    value = _value(x, n, term)
    return value, _moved(x, n, term, value, tangents)


def _given_value(term: _Term) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for a function that computes a term from x, n and y = x^n: its derivatives in x and n become those of
    the term, and y counts as a constant."""

    def decorate(function):
        of_value = jax.custom_jvp(_mixing(function))

        @functools.partial(of_value.defjvp, symbolic_zeros=True)
        @_mixing
        def _(primals, tangents):
            x, n, _ = primals
            value = of_value(*primals)
            return value, _moved(x, n, term, value, tangents[:2])

        return of_value

    return decorate


@_given_value(_Term((0,), 1, 0))
def _slope_in_base(x, n, y):
    """n x^(n - 1), computed as n y / x where n - 1 would be rounded (n below 1/2 or above 2/eps), unless y has over- or
    underflowed."""
    below = jnp.power(x, n - 1)
    if not jnp.issubdtype(n.dtype, jnp.integer):
        rounded = (n < 0.5) | (n > 2 / jnp.finfo(x.dtype).eps)
        below = jnp.where(rounded & (y != 0) & jnp.isfinite(y), y / x, below)
    return jnp.where(n == 0, jnp.zeros_like(below), n * below)


@_given_value(_Term((), 0, 1))
def _slope_in_exponent(x, n, y):
    return _times_log(x, n, y, 1)
