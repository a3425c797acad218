"""Dropout of entries, of channels and of weights."""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field

from jaxtyping import Float, PyTree

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import kept, required_key
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Params, State, Steps

__all__ = ["DropConnect", "Dropout", "SpatialDropout"]


@dataclass(frozen=True)
class Dropout(Layer):
    """In training keeps each element with probability ``keep_prob``, scaled by 1/keep_prob; at inference the identity.

    ``Dropout(0.9)`` keeps nine of ten; ``Dropout(rate=0.1)``, of which other libraries know the number, is the same.
    So can every setting ``keep_prob`` of a layer or model be given as its ``rate``.

    Source: Srivastava et al. 2014, *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*.

    Raises:
        InputError: in training, when no key is given; when both a keep_prob and a rate are.

    >>> print(Dropout(0.9) == Dropout(rate=0.1))
    True
    """

    takes = "steps"
    keep_prob: float | None = None
    rate: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, rate):
        super().__post_init__()
        _keep(self, rate)

    def apply(
        self, params, state, x: Float[Steps, "*shape"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*shape"], State]:
        return _dropout(self, x, key) if train else x, state


@dataclass(frozen=True)
class SpatialDropout(Layer):
    """In training keeps each channel of each example with probability ``keep_prob``, scaled by 1/keep_prob; at
    inference the identity. x is (N, ..., C), with any number of spatial axes.

    Source: Tompson et al. 2015, *Efficient Object Localization Using Convolutional Networks*.

    Raises:
        InputError: on x without a spatial axis, and in training when no key is given.

    >>> import jax, jax.numpy as jnp
    >>> y, _ = SpatialDropout(0.5).apply((), (), jnp.ones((1, 4, 4, 5)), key=jax.random.key(1), train=True)
    >>> print(y[0, 0, 0], jnp.ptp(y, axis=(1, 2)).max())
    [2. 0. 2. 2. 0.] 0.0
    """

    takes = "array"
    keep_prob: float | None = None
    rate: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, rate):
        super().__post_init__()
        _keep(self, rate)

    def apply(
        self, params, state, x: Float[AnyArray, "batch *spatial channels"], *, key=None, train=False
    ) -> tuple[Float[AnyArray, "batch *spatial channels"], State]:
        if x.ndim < 3:
            raise InputError(f"{self} needs x of shape (N, ..., C), got {x.shape}; without spatial axes use Dropout")
        return _dropout(self, x, key, shared_axes=tuple(range(1, x.ndim - 1))) if train else x, state


@dataclass(frozen=True)
class DropConnect(Layer):
    """In training keeps each weight of a layer with probability ``keep_prob``, scaled by 1/keep_prob; at
    inference the layer itself.

    One mask of ``params["w"]`` is drawn for all examples of a call, and biases are kept. Params and state are the
    layer's.

    Source: Wan et al. 2013, *Regularization of Neural Networks using DropConnect*.

    Raises:
        InputError: in training, when no key is given, and around a layer without weights ``w``.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn.nn import Linear
    >>> layer = DropConnect(Linear(3, weight_init=lambda key, shape, dtype: jnp.ones(shape, dtype)), 0.5)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> y, _ = layer.apply(params, state, jnp.ones((1, 2)), key=jax.random.key(0), train=True)
    >>> print(y)
    [[2. 0. 4.]]
    """

    layer: Layer
    keep_prob: float | None = None
    rate: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, rate):
        super().__post_init__()
        _keep(self, rate)

    def children(self):
        return {"": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        (layer,) = children.values()
        return DropConnect(layer, self.keep_prob)

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        return self.layer.init(key, x)

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        if not isinstance(params, Mapping) or "w" not in params:
            raise InputError(f"DropConnect drops the weights w of a layer, and {self.layer} has none; wrap a Linear")
        if train:
            params = {**params, "w": _dropout(self, params["w"], key)}
        return self.layer.apply(params, state, x, key=key, train=train)

    def flops(self, x, y):
        return 0


def _keep(layer, rate):
    object.__setattr__(layer, "keep_prob", kept(type(layer).__name__, layer.keep_prob, rate, default=None))


def _dropout(layer, x, key, shared_axes=()):
    return ops.dropout(x, required_key(layer, key), keep_prob=layer.keep_prob, shared_axes=shared_axes)
