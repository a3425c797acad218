"""What ``dlfn.train.fit`` costs beside the best loop by hand: the same steps in a compiled loop of 50, with donated
buffers and the batches as indices, but no metrics other than the loss, no records and no checkpoints. Both run in turn
in one process; printed is the median of the ratios of their times, and what saving every 100 steps takes.

Times are those of the process on its cores, so that other programs on the machine make no difference."""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlfn.train import fit, load_config
from dlfn.train.engine import make_loop
from dlfn.train.parts import make_parts

DISPATCH = 50


def parts_of(name: str, steps: int) -> dict[str, Any]:
    overrides = [f"train.steps={steps}", f"train.steps_per_dispatch={DISPATCH}", f"train.log_every={DISPATCH}"]
    overrides += ["train.eval_every=0", "train.save_every=0", "train.compare=false", "mesh.data=1"]
    parts = make_parts(load_config(name, overrides))
    return parts | {"data": parts["data"]._replace(test=None), "quiet": True}


def by_engine(parts: dict[str, Any], **settings: Any) -> float:
    """Seconds from the first record to the last, at both of which the metrics of the steps until then are there."""
    times: list[float] = []

    def record(step: int) -> float:
        times.append(time.process_time())
        return 0.0

    fit(**{**parts, "learning_rate": record, **settings})
    return times[-1] - times[0]


class ByHand:
    """The loop that a person would write for speed, of the same model, loss, data and optimiser."""

    def __init__(self, parts: dict[str, Any]):
        loop = make_loop(**parts)
        self.source, self.optimizer, learner = parts["data"].train, parts["optimizer"], loop.learner
        with loop.placement.active():
            carry = loop.begin()
        self.carry, self.resident, self.key = (carry.params, carry.state, carry.optimizer), loop.resident, loop.key
        self.batch, self.steps = loop.plan.batch_size, loop.plan.steps

        def step(carry: Any, inputs: Any) -> Any:
            (params, state, moments), (number, drawn) = carry, inputs
            batch, key = self.source.take(self.resident, drawn), jax.random.fold_in(self.key, number)
            (loss, (state, _)), grads = jax.value_and_grad(learner.loss, has_aux=True)(params, state, batch, key)
            updates, moments = self.optimizer.update(grads, moments, params)
            return (optax.apply_updates(params, updates), state, moments), loss

        def dispatch(carry: Any, first: Any, drawn: Any) -> Any:
            return jax.lax.scan(step, carry, (first + jnp.arange(DISPATCH), drawn))

        self.dispatch = jax.jit(dispatch, donate_argnums=0)
        self()

    def __call__(self) -> float:
        began = 0.0
        for first in range(0, self.steps, DISPATCH):
            drawn = jax.device_put(self.source.draw(0, first, first + DISPATCH, self.batch))
            self.carry, losses = self.dispatch(self.carry, np.int32(first), drawn)
            if first == 0:
                losses.block_until_ready()
                began = time.process_time()
        losses.block_until_ready()
        return time.process_time() - began


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 300), help="of digits_mlp and of text_gpt")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        jax.config.update("jax_compilation_cache_dir", f"{name}/cache")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for config, steps in zip(("digits_mlp", "text_gpt"), arguments.steps, strict=True):
            parts = parts_of(config, steps)
            by_hand = ByHand(parts)
            by_engine(parts)
            ratios = [by_hand() / by_engine(parts) for _ in range(arguments.rounds)]
            print(f"{config}: {statistics.median(ratios):.3f} of the loop by hand ({_range(ratios)})", flush=True)
        shares = []
        for number in range(arguments.rounds):
            plain = by_engine(parts, folder=Path(name) / f"plain_{number}")
            saving = by_engine(parts, folder=Path(name) / f"saving_{number}", save_every=100)
            shares.append(saving / plain - 1)
        print(f"text_gpt: saving every 100 steps adds {statistics.median(shares):.1%} ({_range(shares)})")
    return 0


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}, {len(values)} rounds"


if __name__ == "__main__":
    sys.exit(main())
