"""What models of images begin with."""

from dataclasses import dataclass

from jaxtyping import Array, Shaped

from dlfn.core import InputError
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, State

__all__ = ["Images"]


@dataclass(frozen=True)
class Images(Layer):
    """``(N, height, width)`` to ``(N, height, width, 1)``; images that have channels stay as they are.

    Raises:
        InputError: on an input of another rank.
    """

    takes = "array"

    def apply(
        self, params, state, x: Shaped[AnyArray, " batch *shape"], *, key=None, train=False
    ) -> tuple[Shaped[Array, "batch height width channels"] | Shaped[AnyArray, " batch *shape"], State]:
        if x.ndim not in (3, 4):
            raise InputError(
                f"the input has shape {x.shape}, and must be images, (batch, height, width) or (batch, height, width, "
                "channels); give one image as x[None]"
            )
        return x[..., None] if x.ndim == 3 else x, state

    def flops(self, x, y):
        return 0
