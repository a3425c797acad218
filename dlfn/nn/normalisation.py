"""Layers that normalise activations."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Example, Params, State, Steps

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]


class _Norm(Layer):
    """What the norms share: the parameters ``scale`` and ``bias``, of the shape of the features, which start as ones
    and zeros. A layer may have one of them or none."""

    takes = "array"
    eps: float
    scale: bool = True
    bias: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.eps, Real) or not 0 <= self.eps <= 1:
            raise InputError(
                f"{type(self).__name__}: eps is {self.eps!r}, and must be a number from 0 to 1, such as 1e-5; how "
                "many features there are the layer sees by itself"
            )

    def _features(self, x: Example) -> tuple[int, ...]:
        if x.ndim == 0:
            raise InputError(f"{self} needs inputs with a feature axis, got a scalar; reshape x to (..., features)")
        return x.shape[-1:]

    def init(self, key, x: Shaped[Example, "*shape"]) -> tuple[Params, State]:
        dtype, features = jnp.result_type(x.dtype, float), self._features(x)
        params = {"scale": jnp.ones(features, dtype)} if self.scale else {}
        if self.bias:
            params["bias"] = jnp.zeros(features, dtype)
        return params or (), ()

    def _parameters(self, params: Params, x: AnyArray) -> tuple[ArrayLike | None, ArrayLike | None]:
        names = [name for name in ("scale", "bias") if getattr(self, name)]
        found = dict(zip(names, held(self, "params", params, *names) if names else ()))
        for value in found.values():
            if value.shape != self._features(x):
                raise InputError(
                    f"{self} was initialised for features of shape {value.shape} and got x of shape {x.shape}; call "
                    f"init with an example of shape {x.shape}"
                )
        return found.get("scale"), found.get("bias")

    def flops(self, x, y):
        """Per element: three for the mean and the variance, two to normalise, and one for each parameter."""
        return (5 + self.scale + self.bias) * y.size


@dataclass(frozen=True)
class LayerNorm(_Norm):
    """:func:`dlfn.ops.layer_norm` over the last axes.

    Args:
        axes: how many of the last axes are features. The parameters have one entry for each feature.
        eps: added to the variance.
        scale: whether to multiply by a parameter.
        bias: whether to add a parameter.

    Parameters have the dtype of the example if that is floating point, and otherwise the default float dtype. The same
    holds for the layers below.

    Raises:
        InputError: when the inputs have other features than those that the layer was initialised for.

    >>> import jax, jax.numpy as jnp
    >>> layer = LayerNorm()
    >>> params, state = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((8, 3), jnp.float32))
    >>> y, _ = layer.apply(params, state, jnp.array([[1.0, 2.0, 3.0]]))
    >>> print(y.round(3))
    [[-1.225  0.     1.225]]
    """

    axes: int = 1
    eps: float = 1e-5
    scale: bool = True
    bias: bool = True

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "axes")

    @property
    def takes(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "steps" if self.axes == 1 else "array"

    def _features(self, x):
        if x.ndim < self.axes:
            raise InputError(f"{self} needs inputs with {self.axes} axes of features, got x of shape {x.shape}")
        return x.shape[x.ndim - self.axes :]

    def apply(
        self, params, state, x: Float[Steps, "*shape"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*shape"], State]:
        return ops.layer_norm(x, *self._parameters(params, x), eps=self.eps, axes=self.axes), state


@dataclass(frozen=True)
class RMSNorm(_Norm):
    """:func:`dlfn.ops.rms_norm` over the last axis.

    Args:
        eps: added to the mean square.
        scale: whether to multiply by a parameter.
    """

    takes = "steps"
    eps: float = 1e-6
    scale: bool = True

    def apply(
        self, params, state, x: Float[Steps, "*batch features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch features"], State]:
        return ops.rms_norm(x, self._parameters(params, x)[0], eps=self.eps), state

    def flops(self, x, y):
        """Per element: two for the mean square, one to normalise, and one for the scale."""
        return (3 + self.scale) * y.size


@dataclass(frozen=True)
class InstanceNorm(_Norm):
    """:func:`dlfn.ops.instance_norm` of inputs (N, ..., channels), over all axes between the first and the last.

    It uses the statistics of its input in training and at inference alike, as PyTorch does by default. PyTorch's has no
    parameters unless ``affine=True``.

    Args:
        eps: added to the variance.
        scale: whether to multiply by a parameter.
        bias: whether to add a parameter.
    """

    eps: float = 1e-5
    scale: bool = True
    bias: bool = True

    def apply(
        self, params, state, x: Float[AnyArray, "batch *spatial channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "batch *spatial channels"], State]:
        if x.ndim < 3:
            raise InputError(f"{self} needs inputs (N, ..., channels) with an axis between, got x of shape {x.shape}")
        return ops.instance_norm(x, *self._parameters(params, x), eps=self.eps, spatial=x.ndim - 2), state


@dataclass(frozen=True)
class GroupNorm(_Norm):
    """:func:`dlfn.ops.group_norm` of inputs (N, channels) or (N, ..., channels), over the axes between and
    the channels of each group.

    Args:
        groups: how many groups, each of consecutive channels.
        eps: added to the variance.
        scale: whether to multiply by a parameter, which has one entry per channel.
        bias: whether to add a parameter, likewise.
    """

    groups: int
    eps: float = 1e-5
    scale: bool = True
    bias: bool = True

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "groups")

    def apply(
        self, params, state, x: Float[AnyArray, "batch *spatial channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "batch *spatial channels"], State]:
        if x.ndim < 2:
            raise InputError(f"{self} needs inputs (N, ..., channels), got x of shape {x.shape}")
        scale, bias = self._parameters(params, x)
        return ops.group_norm(x, scale, bias, groups=self.groups, eps=self.eps, spatial=x.ndim - 2), state


@dataclass(frozen=True)
class BatchNorm(_Norm):
    r"""Batch norm of inputs (N, channels) or (N, ..., channels) over all axes but the last, with running statistics.

    In training y is normalised by the mean and the variance of the batch, the variance with divisor n, the number of
    entries of a channel. The new state is

    .. math::
        \mathrm{mean} \leftarrow (1 - m)\,\mathrm{mean} + m\,\mu, \qquad
        \mathrm{var} \leftarrow (1 - m)\,\mathrm{var} + m\,\tfrac{n}{n - 1}\,\sigma^2

    with m = ``momentum``: the running variance is that with divisor n - 1. This is as in PyTorch. In Flax the momentum
    is 1 - m, and the running variance has the divisor n. At inference y is normalised by the state, which does not
    change.

    Args:
        momentum: the weight of the batch in the running statistics, in [0, 1].
        eps: added to the variance.
        scale: whether to multiply by a parameter.
        bias: whether to add a parameter.

    The state is ``{"mean", "var"}``, at first zeros and ones, in float32 or wider whatever the dtype of x. The running
    statistics are differentiable functions of x, which costs nothing where the loss does not use the new state. In a
    batch with one entry per channel, for which PyTorch raises an error, the variance is taken to be 0.

    Raises:
        InputError: when the inputs have another number of channels than those that the layer was initialised for.

    >>> import jax, jax.numpy as jnp
    >>> layer = BatchNorm()
    >>> x = jnp.array([[1.0], [3.0]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, state = layer.apply(params, state, x, train=True)
    >>> print(y.ravel(), state["mean"], state["var"])
    [-0.999995  0.999995] [0.2] [1.1]
    """

    momentum: float = 0.1
    eps: float = 1e-5
    scale: bool = True
    bias: bool = True

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.momentum <= 1:
            raise InputError(f"BatchNorm: momentum is the weight of the batch, in [0, 1], got {self.momentum}")

    def init(self, key, x: Shaped[Example, "*batch channels"]) -> tuple[Params, State]:
        params, _ = super().init(key, x)
        features, dtype = self._features(x), _stats_dtype(jnp.result_type(x.dtype, float))
        return params, {"mean": jnp.zeros(features, dtype), "var": jnp.ones(features, dtype)}

    def apply(
        self, params, state, x: Float[AnyArray, "*batch channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*batch channels"], State]:
        scale, bias = self._parameters(params, x)
        mean, var = held(self, "state", state, "mean", "var")
        if mean.shape != self._features(x):
            raise InputError(
                f"{self} has statistics of shape {mean.shape} and got x of shape {x.shape}; call init with an "
                f"example of shape {x.shape}"
            )
        if not train:
            return ops.batch_norm_inference(x, mean, var, scale, bias, eps=self.eps), state
        dtype = _stats_dtype(x.dtype)
        y, mean, var = ops.batch_norm(x, scale, bias, eps=self.eps, stats_dtype=dtype)
        n = jnp.asarray(math.prod(x.shape[:-1]), dtype)
        batch = {"mean": mean, "var": var * (n / jnp.maximum(n - 1, 1))}
        return y, jax.tree.map(lambda old, new: old + self.momentum * (new.astype(old.dtype) - old), state, batch)


def _stats_dtype(dtype: Any) -> Any:
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype
