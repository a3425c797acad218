"""What ``dlfn.train.fit`` costs beside the best loop by hand: the same steps in a compiled loop of 50, with donated
buffers and the batches as indices, but no records and no checkpoints. The loop by hand is there twice: with the step as
it is, and with a bare one, which has no metrics other than the loss and does not look for what is not finite. All run
in turn in one process; printed is the median of the ratios of their times, and what saving every 100 steps adds.

Times are what a clock on the wall shows, so that nothing else should run on the machine."""

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
        times.append(time.perf_counter())
        return 0.0

    fit(**{**parts, "learning_rate": record, **settings})
    return times[-1] - times[0]


class ByHand:
    """The loop that a person would write for speed, of the same model, loss, data and optimiser."""

    def __init__(self, parts: dict[str, Any], bare: bool):
        loop = make_loop(**parts)
        self.source, self.optimizer, learner = parts["data"].train, parts["optimizer"], loop.learner
        with loop.placement.active():
            carry = loop.begin()
        self.carry = (carry.params, carry.state, carry.optimizer) if bare else carry
        self.resident, self.key = loop.resident, loop.key
        self.batch, self.steps = loop.plan.batch_size, loop.plan.steps

        def step(carry: Any, inputs: Any) -> Any:
            number, drawn = inputs
            batch, key = self.source.take(self.resident, drawn), jax.random.fold_in(self.key, number)
            if not bare:
                return learner.step(carry, batch, key)
            params, state, moments = carry
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
            self.carry, reported = self.dispatch(self.carry, np.int32(first), drawn)
            if first == 0:
                jax.block_until_ready(reported)
                began = time.perf_counter()
        jax.block_until_ready(reported)
        return time.perf_counter() - began


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 300), help="of digits_mlp and of text_gpt")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1 or min(arguments.steps) < 2 * DISPATCH:
        parser.error(f"--rounds must be at least 1, and --steps at least {2 * DISPATCH}, which is two dispatches")
    with tempfile.TemporaryDirectory() as name:
        jax.config.update("jax_compilation_cache_dir", f"{name}/cache")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for config, steps in zip(("digits_mlp", "text_gpt"), arguments.steps, strict=True):
            parts = parts_of(config, steps)
            loops = {"the same step": ByHand(parts, bare=False), "a bare step": ByHand(parts, bare=True)}
            by_engine(parts)
            ratios: dict[str, list[float]] = {step: [] for step in loops}
            for _ in range(arguments.rounds):
                engine = by_engine(parts)
                for step, by_hand in loops.items():
                    ratios[step].append(by_hand() / engine)
            for step, values in ratios.items():
                print(f"{config}: {statistics.median(values):.3f} of a loop by hand of {step} ({_range(values)})")
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
