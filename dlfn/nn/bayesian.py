"""Layers whose weights are distributions."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.basic import Linear
from dlfn.nn.cells import needed_key
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, xavier_uniform, zeros
from dlfn.nn.layer import Layer
from dlfn.nn.types import Example, Params, State, Steps

__all__ = ["BayesianLinear"]


@dataclass(frozen=True)
class BayesianLinear(Layer):
    r"""A linear map whose weights and biases are independent normal variables, learned by Bayes by backprop.

    Their means :math:`\mu` and, through :math:`\sigma = \log(1 + e^\rho)`, their deviations are the parameters,
    ``{"mean": {"w", "b"}, "rho": {"w", "b"}}``. In training each call draws

    .. math::
        w = \mu + \log(1 + e^\rho) \odot \epsilon, \qquad \epsilon \sim N(0, 1),

    one w for all examples, so that gradients reach :math:`\mu` and :math:`\rho` through w. What is to be minimised is
    the expected loss of the whole data set plus :meth:`kl`; if the loss is a mean over N examples, add ``kl / N``. At
    inference w is :math:`\mu`. With ``sample_at_inference`` it is drawn there too, and the spread of the outputs over
    keys is the model's uncertainty.

    Args:
        features: the number of outputs.
        bias: whether to add ``b``.
        prior_std: the deviation of the weights' prior, :math:`N(0, \sigma_0^2)`.
        std_init: the deviation that all weights start from.
        sample_at_inference: whether to draw weights when ``train`` is False as well.
        weight_init, bias_init: of the means.
        precision: as in ``jax.lax.dot_general``.

    Raises:
        InputError: where weights are drawn and no key is given, on deviations that are not positive, and on inputs
            with another number of features than those that the layer was initialised for.

    Source: Blundell, Cornebise, Kavukcuoglu & Wierstra 2015, *Weight Uncertainty in Neural Networks*; 004 applications.

    >>> import jax, jax.numpy as jnp
    >>> layer, x = BayesianLinear(2), jnp.ones((1, 3))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> print(jax.tree.map(jnp.shape, params["mean"]), layer.kl(params) > 0)
    {'b': (2,), 'w': (3, 2)} True
    >>> draw = lambda key: layer.apply(params, state, x, key=key, train=True)[0]
    >>> y = jax.vmap(draw)(jax.random.split(jax.random.key(0), 10_000))
    >>> print(jnp.abs(y.std(axis=0) - 0.2) < 0.01)  # √4 · 0.1, of three weights and a bias
    [[ True  True]]
    """

    takes = "steps"
    features: int
    bias: bool = True
    prior_std: float = 1.0
    std_init: float = 0.1
    sample_at_inference: bool = False
    weight_init: Initializer = xavier_uniform
    bias_init: Initializer = zeros
    precision: jax.lax.PrecisionLike = None

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "features")
        for name in ("prior_std", "std_init"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"BayesianLinear: {name} is a standard deviation, above 0 and finite, got {value!r}")

    def init(self, key, x: Shaped[Example, "*batch features"]) -> tuple[Params, State]:
        mean, state = self._linear().init(key, x)
        rho = self.std_init + math.log(-math.expm1(-self.std_init))  # softplus(rho) is std_init
        return {"mean": mean, "rho": jax.tree.map(lambda leaf: jnp.full_like(leaf, rho), mean)}, state

    def apply(
        self, params, state, x: Float[Steps, "*batch features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch {self.features}"], State]:
        weights, _ = held(self, "params", params, "mean", "rho")
        if train or self.sample_at_inference:
            where = "BayesianLinear" if train else "BayesianLinear with sample_at_inference"
            weights = _drawn(params, needed_key(key, where))
        return self._linear().apply(weights, state, x)

    def kl(self, params: Params) -> Float[Array, ""]:
        r""":math:`\operatorname{KL}(q \,\|\, p)` of the weights' distribution from their prior, in nats."""
        leaves = zip(jax.tree.leaves(params["mean"]), jax.tree.leaves(params["rho"]), strict=True)
        prior = 2 * math.log(self.prior_std)
        terms = [
            ops.normal_kl(mean, 2 * _log_std(rho), None, jnp.asarray(prior, mean.dtype), reduction="sum")
            for mean, rho in leaves
        ]
        return functools.reduce(jnp.add, terms)

    def flops(self, x, y):
        """Those of the linear map, and if weights are drawn at inference, three more for each weight."""
        drawn = 3 * (x.shape[-1] + self.bias) * self.features if self.sample_at_inference else 0
        return self._linear().flops(x, y) + drawn

    def _linear(self):
        return Linear(self.features, self.bias, self.weight_init, self.bias_init, self.precision)


def _drawn(params, key):
    # One draw for all arrays, since it is the drawing that takes long to compile.
    mean, unravel = ravel_pytree(params["mean"])
    noise = unravel(jax.random.normal(key, mean.shape, mean.dtype))
    return jax.tree.map(lambda mean, rho, e: mean + ops.softplus(rho) * e, params["mean"], params["rho"], noise)


def _log_std(rho):
    """log(softplus(rho)), also for a rho so far below 0 that softplus(rho), about exp(rho), is subnormal or 0."""
    far = rho < -40
    return jnp.where(far, rho, jnp.log(ops.softplus(jnp.where(far, jnp.zeros_like(rho), rho))))
