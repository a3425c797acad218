"""The same block many times, as a loop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from dlfn.core import InputError
from dlfn.nn.checks import require_sizes
from dlfn.nn.layer import Layer, inside, output_shape
from dlfn.nn.several import child_key
from dlfn.nn.types import Params, State

__all__ = ["Repeat"]


@dataclass(frozen=True)
class Repeat(Layer):
    """``n`` blocks of one configuration, one after the other, as a loop: the program does not grow with ``n``.

    With ``unroll`` it is no loop but ``n`` blocks, with the same params. On a GPU that saves the copies into and out of
    the arrays in which a loop stacks what its steps save: a fifth of the time of GPT-2's training step.

    Every block has params and state of its own, stacked along a new first axis: ``params["w"][i]`` belongs to block i.
    Block i is initialised by ``fold_in(key, i)``, and draws from ``fold_in(key, i)`` in training, as the layers of
    ``Serial`` do. For the backward pass every block saves what its ops save, without another copy of the weights.
    ``dlfn.backprop`` records the cotangents of names inside the block stacked, block 0 first.

    Args:
        layer: the block, whose output must have the shape and dtype of its input.
        n: how many blocks.
        checkpoint: whether to save the inputs of the blocks alone and to run each block again in the backward pass
            (``jax.checkpoint``). The memory is then that of one block and of ``n`` inputs, for about a third more time.
        unroll: whether to write the blocks out. The program grows with ``n``. ``dlfn.backprop`` then records the names
            in each block under its number, ``"0/linear"``.

    Raises:
        InputError: when ``n`` is no positive integer, when a block changes shape or dtype, and when params are stacked
            to another length than ``n``.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Repeat(nn.Residual(nn.Serial(nn.Linear(16), nn.GELU(), nn.Linear(4))), 12)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((8, 4)))
    >>> y, state = model.apply(params, state, jnp.zeros((8, 4)))
    >>> print(y.shape, params[0]["w"].shape)
    (8, 4) (12, 4, 16)
    >>> print(nn.Repeat(nn.Tanh(), 3, checkpoint=True))
    Repeat(
      3 × tanh()
      checkpoint=True
    )
    """

    layer: Layer
    n: int
    checkpoint: bool = False
    unroll: bool = False

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "n")

    def children(self):
        return {"": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        (layer,) = children.values()
        return replace(self, layer=layer)

    def repeats(self):
        return self.n

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        def init_block(index: jax.Array) -> Any:
            params, state = self.layer.init(jax.random.fold_in(key, index), x)
            self._check_output(x, output_shape(self.layer, params, state, x))
            return params, state

        # A loop and not a vmap, since with some random number generators a batch of keys does not draw what each key
        # draws alone.
        return jax.lax.map(init_block, jnp.arange(self.n))

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        for path, leaf in jax.tree_util.tree_leaves_with_path((params, state)):
            if leaf.shape[:1] != (self.n,):
                what = ("params", "state")[path[0].idx] + jax.tree_util.keystr(path[1:])
                raise InputError(
                    f"Repeat: {what} has shape {leaf.shape}, and its first axis must be that of the {self.n} blocks; "
                    "init returns them stacked, and jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks) stacks"
                )

        def block(x: Any, own: Any) -> Any:
            params, state, index = own
            y, state = self.layer.apply(params, state, x, key=child_key(key, index), train=train)
            self._check_output(x, y)
            return y, state

        # Inside a loop XLA cannot merge the second run of a block with the first, so that prevent_cse is not needed.
        body = jax.checkpoint(block, prevent_cse=self.unroll) if self.checkpoint else block
        if not self.unroll:
            return lax.scan(body, x, (params, state, jnp.arange(self.n)))
        # The transpose of split is one concatenation; that of n slices would be n sums of arrays of all blocks.
        leaves, structure = jax.tree.flatten((params, state))
        split = [lax.split(jnp.asarray(leaf), (1,) * self.n) for leaf in leaves]
        states = []
        for index, parts in enumerate(zip(*split, strict=True) if leaves else [()] * self.n):
            own = structure.unflatten([jnp.squeeze(part, 0) for part in parts])
            with inside(str(index)):
                x, new = body(x, (*own, index))
            states.append(new)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def flops(self, x, y):
        return 0

    def __str__(self) -> str:
        block = f"{self.n} × {self.layer}\n".replace("\n", "\n  ")
        settings = [f"{name}=True" for name in ("checkpoint", "unroll") if getattr(self, name)]
        return f"Repeat(\n  {block}{', '.join(settings)}".rstrip() + "\n)"

    def _check_output(self, x: Any, y: Any) -> None:
        if _kinds(x) != _kinds(y):
            raise InputError(
                f"Repeat feeds each block the output of the one before, but the block turned {_described(x)} into "
                f"{_described(y)}; end it with the shape and dtype of its input"
            )


def _kinds(tree: Any) -> Any:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _described(tree: Any) -> str:
    return " ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)) or "nothing"
