"""The variational autoencoder."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dlfn.core import InputError
from dlfn.nn.activations import Activation
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.combinators import Serial
from dlfn.nn.layer import Layer, inside
from dlfn.nn.models.perceptrons import mlp
from dlfn.nn.types import AnyArray, Example, Params, State

__all__ = ["VAE", "Reconstruction", "vae"]


class Reconstruction(NamedTuple):
    """What a variational autoencoder makes of x.

    Attributes:
        logits: of Bernoulli distributions, of the shape of x.
        mean, log_variance: of the normal distribution of each example's code, (N, latent).
    """

    logits: Float[Array, " batch *shape"]
    mean: Float[Array, "batch latent"]
    log_variance: Float[Array, "batch latent"]


@dataclass(frozen=True)
class VAE(Layer):
    r"""A variational autoencoder of entries in [0, 1], which are Bernoulli distributed.

    The encoder makes of x the mean and the log-variance of a code z, the decoder of z the logits of x. In training
    :math:`z = \mu + e^{\log \sigma^2 / 2} \varepsilon` with :math:`\varepsilon` normal, otherwise :math:`z = \mu`.

    Args:
        widths: of the encoder's hidden layers; the decoder has them in reverse.
        latent: the features of a code.
        activation: of the hidden layers, by name.

    Params are ``{"encoder", "decoder"}``, each those of :func:`~dlfn.nn.mlp`.

    Raises:
        InputError: in training, when no key is given; and what the layers raise.

    Source: Kingma & Welling 2014, *Auto-Encoding Variational Bayes*.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import ops
    >>> model, x = VAE((32,), latent=2), jnp.full((5, 8, 8), 0.25)
    >>> params, state = model.init(jax.random.key(0), x)
    >>> (logits, mean, log_variance), _ = model.apply(params, state, x, key=jax.random.key(1), train=True)
    >>> negative_bound = ops.binary_cross_entropy(logits, x, reduction="sum") / 5 + ops.normal_kl(mean, log_variance)
    >>> print(logits.shape, mean.shape, model.decode(params, jnp.zeros((3, 2))).shape)
    (5, 8, 8) (5, 2) (3, 64)
    """

    takes = "array"
    widths: tuple[int, ...]
    latent: int
    activation: str = "gelu"

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "latent")
        Activation(self.activation)  # refuses a name that is none

    def init(self, key, x: Shaped[Example, " batch *shape"]) -> tuple[Params, State]:
        dtype = jnp.result_type(x.dtype, float)
        code = jax.ShapeDtypeStruct((x.shape[0], self.latent), dtype)
        params = {}
        parts = {"encoder": (self._encoder, x), "decoder": (self._decoder(math.prod(x.shape[1:])), code)}
        for index, (name, (layer, example)) in enumerate(parts.items()):
            with inside(name):
                params[name], _ = layer.init(jax.random.fold_in(key, index), example)
        return params, ()

    def apply(
        self, params, state, x: Float[AnyArray, " batch *shape"], *, key=None, train=False
    ) -> tuple[Reconstruction, State]:
        mean, log_variance = self.encode(params, x)
        z = mean
        if train:
            if key is None:
                raise InputError("VAE draws codes in training and needs a key; call apply(..., key=..., train=True)")
            z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape, mean.dtype)
        return Reconstruction(self.decode(params, z).reshape(x.shape), mean, log_variance), state

    def encode(
        self, params: Params, x: Float[AnyArray, " batch *shape"]
    ) -> tuple[Float[Array, "batch {self.latent}"], Float[Array, "batch {self.latent}"]]:
        """The mean and the log-variance of each example's code."""
        encoder, _ = held(self, "params", params, "encoder", "decoder")
        with inside("encoder"):
            y, _ = self._encoder.apply(encoder, (), x)
        mean, log_variance = jnp.split(y, 2, axis=-1)
        return mean, log_variance

    def decode(self, params: Params, z: Float[AnyArray, "batch {self.latent}"]) -> Float[Array, "batch features"]:
        """The logits of codes, with the entries of an example along one axis."""
        _, decoder = held(self, "params", params, "encoder", "decoder")
        with inside("decoder"):
            return self._decoder(decoder["logits"]["w"].shape[-1]).apply(decoder, (), z)[0]

    def flops(self, x, y):
        """Two for each weight, and one for each hidden feature and its bias."""
        entries = math.prod(x.shape[1:])
        sizes = [entries, *self.widths, 2 * self.latent], [self.latent, *reversed(self.widths), entries]
        weights = sum(a * b for part in sizes for a, b in itertools.pairwise(part))
        return x.shape[0] * (2 * weights + 2 * sum(self.widths))

    @property
    def _encoder(self) -> Serial:
        return mlp(self.widths, 2 * self.latent, activation=self.activation)

    def _decoder(self, entries: int) -> Serial:
        return mlp(self.widths[::-1], entries, activation=self.activation)


def vae(*, widths: Sequence[int] = (256,), latent: int = 8, activation: str = "gelu") -> VAE:
    """:class:`VAE` ``(tuple(widths), latent, activation)``.

    >>> print(vae(widths=[32], latent=2))
    VAE(widths=(32,), latent=2)
    """
    return VAE(tuple(widths), latent, activation)
