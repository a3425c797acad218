"""Windows of a long row of tokens."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.train.data.source import Source

__all__ = ["MappedWindows", "Windows"]


class Windows(Source):
    """Windows of ``context + 1`` tokens in int32: a model reads all but the last, and is to name all but the first.

    Steps draw them at random offsets, with replacement, as nanoGPT does. :meth:`rows` counts those that follow each
    other, of which each begins with the last token of the one before, so that every token but the first is predicted
    once; what is left over at the end, less than a window, is in none of these.

    Args:
        tokens: all of them, one after the other, in any integer dtype; they are on the device as a whole.
        context: how many tokens a model reads.
        name: what the tokens are called in an error.

    Raises:
        InputError: where there are fewer tokens than a window has.

    >>> source = Windows(np.arange(10, dtype=np.uint8), context=4)
    >>> source.size, source.rows(0, 2).tolist()
    (2, [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]])
    >>> drawn = source.draw(seed=0, start=0, stop=3, batch_size=2)
    >>> source.take(jnp.asarray(source.resident()), drawn[0]).shape
    (2, 5)
    """

    def __init__(self, tokens: np.ndarray, context: int, name: str = "text"):
        if context < 1:
            raise InputError(f"context = {context}: must be at least 1")
        if len(tokens) <= context:
            raise InputError(
                f"context = {context}: the {name} has {len(tokens)} tokens, and must have {context + 1} at least; "
                "lower context, or take more text"
            )
        self._tokens, self._context = tokens, context
        self.size = self._count = (len(tokens) - 1) // context

    def resident(self) -> Any:
        return self._tokens

    def draw(self, seed: int, start: int, stop: int, batch_size: int) -> np.ndarray:
        return self._offsets(seed, start, stop, batch_size).astype(np.int32)

    def take(self, resident: Any, drawn: Any) -> Any:
        at = drawn[:, None] + jnp.arange(self._context + 1)
        return resident.at[at].get(mode="promise_in_bounds").astype(jnp.int32)

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self._windows(np.arange(start, min(stop, self._count)) * self._context)

    def _offsets(self, seed: int, start: int, stop: int, batch_size: int) -> np.ndarray:
        """Of every step, by a generator of its own."""
        steps = (np.random.Generator(np.random.Philox(key=[seed, step])) for step in range(start, stop))
        return np.stack([step.integers(len(self._tokens) - self._context, size=batch_size) for step in steps])

    def _windows(self, offsets: np.ndarray) -> np.ndarray:
        return self._tokens[offsets[..., None] + np.arange(self._context + 1)].astype(np.int32)


class MappedWindows(Windows):
    """The same of tokens that stay in their file, of which no more is read than the windows that are drawn.

    >>> source = MappedWindows(np.arange(10, dtype=np.uint16), context=4)
    >>> source.resident(), source.draw(seed=0, start=0, stop=3, batch_size=2).shape
    ((), (3, 2, 5))
    """

    def resident(self) -> Any:
        return ()

    def draw(self, seed: int, start: int, stop: int, batch_size: int) -> np.ndarray:
        return self._windows(self._offsets(seed, start, stop, batch_size))

    def take(self, resident: Any, drawn: Any) -> Any:
        return drawn
