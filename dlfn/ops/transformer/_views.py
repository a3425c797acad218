r"""How attention is cut into blocks of queries, and which keys each of them sees."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

__all__ = ["ON_ACCELERATORS", "ON_CPUS", "Plan", "View", "groups_of", "loop"]


class Plan(NamedTuple):
    """How attention is cut into pieces, and what its products are taken of.

    Attributes:
        rows: the queries of a block.
        loops: under a causal mask the blocks are taken in at most so many loops. More of them skip more of what the
            mask hides, and take longer to compile.
        steps: the least number of blocks in a loop. The steps of a loop share their memory.
        written_out: up to so many blocks that see the same keys are written out, without a loop.
        half: whether products are taken of bfloat16 where the arguments are, and summed in float32. Then probabilities
            and their cotangents are rounded to it. Otherwise, and in float16, whose range may be too small for
            cotangents, the arguments are cast to float32.
    """

    rows: int
    loops: int
    steps: int
    written_out: int
    half: bool


# XLA on CPU unrolls a loop of one step, whose memory is then not shared. It multiplies half types in float32 anyway.
ON_CPUS = Plan(rows=128, loops=8, steps=2, written_out=1, half=False)
# Measured on an H100, causal, forward + backward, milliseconds for blocks of 512 and of 1024 queries, for all at once:
# 2.6, 3.1, 3.1 at T = 1024 (16 × 12 heads of 64); 5.6, 6.2, 7.7 at 2048 (8 × 16 of 64); 11.2, 10.9, 15.3 at 4096
# (4 × 16 of 128). A loop adds what its steps take to launch.
ON_ACCELERATORS = Plan(rows=512, loops=8, steps=1, written_out=8, half=True)


class View(NamedTuple):
    """The keys that the blocks of a group see.

    Attributes:
        seen: the group as a whole sees so many, the first ones.
        width: a block sees so many of these: all, or from ``start + shift`` on, for a block whose first row is
            ``start``, as far as there are keys.
    """

    seen: int
    width: int
    shift: int = 0

    def first(self, start):
        """The first key of a block."""
        return 0 if self.width == self.seen else jnp.clip(start + self.shift, 0, self.seen - self.width)

    def of(self, x, axis):
        """What the group sees of an array whose axis is that of the keys, or has size 1; None for None."""
        return x if x is None or x.shape[axis] in (1, self.seen) else lax.slice_in_dim(x, 0, self.seen, axis=axis)

    def at(self, x, start, axis):
        """What a block sees of that."""
        if x.shape[axis] == 1 or self.width == self.seen:
            return x
        return lax.dynamic_slice_in_dim(x, self.first(start), self.width, axis)

    def put(self, x, part, start, axis):
        """That in the place of what a block sees."""
        if part.shape == x.shape:
            return part
        return lax.dynamic_update_slice_in_dim(x, part, self.first(start), axis)

    def add(self, x, part, start):
        """``part`` added to the keys that a block sees."""
        return self.put(x, self.at(x, start, -2) + part, start, -2)


def groups_of(queries, keys, block, causal, around, plan) -> Iterator[tuple[tuple[int, int, int], View]]:
    """Groups of steps: (first row, rows per step, number of steps), and which keys they see. ``around`` is for a
    window: where the keys of a block begin, from its first row on, and how many more they are than the rows."""
    steps, rest = divmod(queries, min(block, queries) or 1)
    rows = (queries - rest) // (steps or 1)
    shift, more = around or (0, keys)
    slides = rows + more < keys
    size = max(plan.steps, math.ceil(steps / plan.loops)) if causal and not slides else max(steps, 1)
    groups = [(step * rows, rows, min(size, steps - step)) for step in range(0, steps, size)]
    if rest:
        groups.append((steps * rows, rest, 1))
    for start, rows, steps in groups:
        if slides:
            yield (start, rows, steps), View(keys, rows + more, shift)
        else:
            # At least one key, which the mask then hides, as there is no maximum over no keys.
            seen = min(keys, max(1, start + rows * steps + keys - queries)) if causal else keys
            yield (start, rows, steps), View(seen, seen)


def loop(step: Callable[[Any, Any, int], Any], carry: Any, group: tuple[int, int, int], plan: Plan) -> Any:
    """``carry = step(carry, first row, rows)`` for each step of a group."""
    start, rows, steps = group
    if steps <= plan.written_out:
        for i in range(steps):
            carry = step(carry, start + i * rows, rows)
        return carry
    starts = start + rows * jnp.arange(steps, dtype=jnp.int32)
    return lax.scan(lambda carry, start: (step(carry, start, rows), None), carry, starts)[0]
