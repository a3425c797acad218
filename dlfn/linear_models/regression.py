r"""Linear, logistic and softmax regression by gradient descent.

The three differ in their loss alone. With the scores :math:`Z = X W + b` and its mean loss over N examples,

=================== ========================================================= =========================================
model               loss of an example                                        :math:`R = N\, \partial J / \partial Z`
=================== ========================================================= =========================================
linear_regression   :math:`\frac12 (z - y)^2` (001 section 2)                 :math:`z - y`
logistic_regression :math:`-y \log \sigma(z) - (1 - y) \log (1 - \sigma(z))`  :math:`\sigma(z) - y`
                    (001 section 4)
softmax_regression  :math:`-\log \operatorname{softmax}(z)_y`                 :math:`\operatorname{softmax}(z) - e_y`
                    (001 sections 5 and 6)
=================== ========================================================= =========================================

.. math::
    J = \frac1N \sum_n \ell_n + \frac\lambda2 \|W\|^2, \qquad
    \frac{\partial J}{\partial W} = \frac1N X^\top R + \lambda W, \qquad
    \frac{\partial J}{\partial b} = \frac1N \sum_n R_n.

Parameters are a dictionary ``{"w": (features,) or (features, classes), "b": () or (classes,)}``; without "b" there is
no bias. scikit-learn's C is :math:`1 / (N \lambda)`, and its biases have no penalty either.

>>> x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([1.0, 3.0, 5.0])
>>> fit = linear_regression.fit(x, y, steps=200)
>>> print(fit.params["w"].round(3), fit.params["b"].round(3))
[2.] 1.0
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn import ops
from dlfn.core import InputError
from dlfn.linear_models._examples import as_examples
from dlfn.ops.support.arguments import describe, require_float, require_values

__all__ = ["Fit", "Regression", "linear_regression", "logistic_regression", "softmax_regression"]


class Fit(NamedTuple):
    """Parameters, and the loss before each step."""

    params: Any
    losses: jax.Array


@dataclasses.dataclass(frozen=True)
class Regression:
    r"""A linear model by its loss of the scores; see the top of this module for the equations.

    Of all methods x is (examples, features), y (examples,), params as above, and l2 is :math:`\lambda`, 0 or more. They
    raise InputError on other shapes, on empty data, on x or params that are not floating point, on labels that are none
    of the model's and on a negative l2 (where the values are known: not inside ``jit``).

    >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([0, 1])
    >>> params = {"w": jnp.array([2.0]), "b": jnp.array(-1.0)}
    >>> print(logistic_regression.scores(params, x), logistic_regression.predict(params, x))
    [-1.  1.] [0.26894143 0.7310586 ]
    >>> print(logistic_regression.loss(params, x, y), logistic_regression.gradient(params, x, y, l2=0.1)["w"])
    0.3132617 [0.06552929]
    >>> print(linear_regression.longest_step(x, bias=False))
    2.0

    Attributes:
        name: in errors.
        op: the loss of (scores, y), whose hand-derived backward pass is R / N.
        curvature: the largest second derivative of an example's loss.
        probabilities: of scores, or the scores themselves.
    """

    name: str
    op: Callable[..., Any]
    curvature: float
    probabilities: Callable[..., Any]

    def scores(self, params: Any, x: Any) -> jax.Array:
        """:math:`X W + b`: (examples,), or (examples, classes)."""
        return self._scores(*self._checked(params, x)[:2])

    def predict(self, params: Any, x: Any) -> jax.Array:
        """The expected y: the score, the probability of 1, or the probabilities of the classes."""
        return self.probabilities(self.scores(params, x))

    def loss(self, params: Any, x: Any, y: Any, *, l2: Any = 0.0) -> jax.Array:
        """J, a scalar. :func:`jax.grad` and :func:`dlfn.backprop` of it agree with :meth:`gradient`."""
        params, x, y, l2 = self._checked(params, x, y, l2)
        return self.op(self._scores(params, x), y) + _penalty(params, l2)

    def gradient(self, params: Any, x: Any, y: Any, *, l2: Any = 0.0) -> Any:
        r""":math:`\nabla J` in closed form, of the tree of the parameters."""
        return self._loss_and_gradient(*self._checked(params, x, y, l2))[1]

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        steps: int = 1000,
        learning_rate: Any = None,
        l2: Any = 0.0,
        params: Any = None,
        classes: int | None = None,
    ) -> Fit:
        r"""Gradient descent, :math:`\theta \leftarrow \theta - \eta \nabla J`, in one compiled loop.

        Args:
            x: (examples, features). Features of very different sizes converge slowly: standardise them.
            y: (examples,): values, 0 and 1, or class ids.
            steps: how many, 0 or more.
            learning_rate: :math:`\eta`; by default :meth:`longest_step`.
            l2: :math:`\lambda`, 0 or more.
            params: where to start, 0 by default. Without "b" there is no bias.
            classes: of softmax regression without params; the largest id of y and one more by default (not inside
                ``jit``).

        Raises:
            InputError: as above, and on a number of steps or classes that is none.
        """
        x, y = as_examples(self.name, x, y)
        if not (isinstance(steps, int) and steps >= 0):
            raise InputError(f"{self.name}: steps is {steps!r}, and must be an int, 0 or more")
        if params is None:
            outputs = self._outputs(y, classes)
            params = {"w": jnp.zeros((x.shape[1], *outputs), x.dtype), "b": jnp.zeros(outputs, x.dtype)}
        params, x, y, l2 = self._checked(params, x, y, l2)
        if learning_rate is None:
            learning_rate = self.longest_step(x, l2, "b" in params)
        return self._descend(params, x, y, jnp.asarray(learning_rate, x.dtype), l2, steps=steps)

    def longest_step(self, x: Any, l2: Any = 0.0, bias: bool = True) -> jax.Array:
        r"""The learning rate with which no step makes J larger: one over the bound of its curvature,
        :math:`c\, \lambda_{\max}(X^\top X) / N + \lambda`; 1 where that is 0. With a bias X has a column of ones."""
        x, l2 = as_examples(self.name, x)[0], _strength(self.name, l2)
        columns = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1) if bias else x
        gram = ops.matmul(columns.T, columns) if columns.shape[0] > columns.shape[1] else ops.matmul(columns, columns.T)
        curvature = self.curvature * ops.eigh(gram / x.shape[0])[0][-1] + l2
        return 1 / jnp.where(curvature < jnp.finfo(x.dtype).smallest_normal, 1, curvature)

    @functools.partial(jax.jit, static_argnames=("self", "steps"))
    def _descend(self, params, x, y, learning_rate, l2, *, steps):
        def step(params, _):
            loss, gradient = self._loss_and_gradient(params, x, y, l2)
            return jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient), loss

        return Fit(*lax.scan(step, params, length=steps))

    def _scores(self, params, x):
        scores = ops.matmul(x, params["w"])
        return scores + params["b"] if "b" in params else scores

    def _loss_and_gradient(self, params, x, y, l2):
        scores = self._scores(params, x)
        loss, r = jax.value_and_grad(self.op)(scores, y)  # r is R / N, by the op's rule
        gradient = {"w": ops.matmul(x.T, r) + l2 * params["w"]}
        if "b" in params:
            gradient["b"] = jnp.sum(r, axis=0)
        return loss + _penalty(params, l2), gradient

    def _outputs(self, y, classes):
        if self.op is not ops.softmax_cross_entropy:
            if classes is not None:
                raise InputError(f"{self.name}: classes is {classes!r}, and is for softmax_regression")
            return ()
        if classes is None:
            try:
                classes = max(int(jnp.max(y)), 0) + 1
            except jax.errors.ConcretizationTypeError:
                raise InputError(f"{self.name}: pass classes=... inside jit, where y is not known") from None
        if not (isinstance(classes, int) and classes >= 1):
            raise InputError(f"{self.name}: classes is {classes!r}, and must be an int, 1 or more")
        return (classes,)

    def _checked(self, params, x, y=None, l2=0.0):
        """The arguments as arrays, in the dtype to compute in."""
        x, y = as_examples(self.name, x, y)
        if not (isinstance(params, dict) and {"w"} <= set(params) <= {"w", "b"}):
            raise InputError(f"{self.name}: params is {params!r:.60}, and must be a dictionary of 'w', and 'b' or none")
        params = jax.tree.map(jnp.asarray, params)
        for name, param in params.items():
            require_float(self.name, f"params[{name!r}]", param)
        dtype = jnp.result_type(x, *params.values())
        x, params = jax.tree.map(lambda part: part.astype(dtype), (x, params))
        w, ids = params["w"], self.op is ops.softmax_cross_entropy
        outputs = w.shape[-1:] if ids else ()
        if w.shape != (x.shape[1], *outputs) or ("b" in params and params["b"].shape != outputs):
            shown = " and ".join(f"params[{name!r}] is {describe(param)}" for name, param in params.items())
            shapes = "(features, classes) and (classes,)" if ids else "(features,) and ()"
            raise InputError(f"{self.name}: {shown} for x {describe(x)}, and must be {shapes}")
        if y is not None and ids:
            if not jnp.issubdtype(y.dtype, jnp.integer):
                raise InputError(f"{self.name}: y is {describe(y)}, and must be class ids, integers from 0 on")
            require_values(self.name, "y", y, (y >= 0) & (y < w.shape[1]), f"a class id from 0 to {w.shape[1] - 1}")
        elif y is not None:
            y = y.astype(x.dtype)
            if self.op is ops.binary_cross_entropy:
                good = (y == 0) | (y == 1)
                require_values(self.name, "y", y, good, "0 or 1; pass (y + 1) / 2 for -1 and +1")
        return params, x, y, _strength(self.name, l2).astype(x.dtype)


def _strength(name, l2):
    l2 = jnp.asarray(l2)
    require_values(name, "l2", l2, l2 >= 0, "0 or more")
    return l2


def _penalty(params, l2):
    return l2 / 2 * jnp.sum(params["w"] ** 2)


linear_regression = Regression("linear_regression", functools.partial(ops.mse, half=True), 1.0, lambda scores: scores)
logistic_regression = Regression("logistic_regression", ops.binary_cross_entropy, 0.25, ops.sigmoid)
softmax_regression = Regression("softmax_regression", ops.softmax_cross_entropy, 0.5, ops.softmax)
