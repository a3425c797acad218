#!/usr/bin/env python
"""Times a training step of nanoGPT's model for the CPU beside the same model in PyTorch: 4 layers, 4 heads, width 128,
context 64, batch 12, 65 characters; AdamW with decay of the matrices alone, gradients clipped at norm 1.

    python scripts/nanogpt.py --rounds 15

Each step of a compiled program asks for its memory anew. glibc hands large blocks back to the system at once, so that
every step pays for the page faults again. --keep-memory has it keep what is freed, for both libraries alike; outside of
this script MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_=8589934592 and MALLOC_TOP_PAD_=268435456 in the environment do
the same.

The steps are interleaved in one process, from the same weights on the same batches, and ratios are of each round's
times; their median is printed, PyTorch's time over ours. Without torch.compile's compiler, that row is left out.
"""

import argparse
import functools
import statistics
import sys
import time
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import optax
import torch

from dlfn import weights
from dlfn.nn import models
from dlfn.train.memory import keep_freed_memory
from scripts._example import positive
from tests import torch_models

VOCABULARY, CONTEXT, BATCH, LAYERS, HEADS, WIDTH = 65, 64, 12, 4, 4, 128
RATE, DECAY, BETAS, CLIP = 1e-3, 0.1, (0.9, 0.99), 1.0


def dlfn_step(model, params):
    """A function of the batch that trains our model by a step and returns the loss."""
    matrices = functools.partial(jax.tree.map, lambda p: p.ndim >= 2)
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(RATE, *BETAS, weight_decay=DECAY, mask=matrices)
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, moments, inputs, labels):
        def loss(params):
            return model.loss(params, (), inputs, labels, train=True, reduction="mean")[0]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments, value

    carry = [params, optimizer.init(params)]

    def run(inputs, labels):
        *carry[:], value = step(*carry, inputs, labels)
        return float(value)

    return run


def torch_step(module, loss):
    optimizer = module.optimizer(RATE, DECAY)

    def run(inputs, labels):
        value = loss(torch.from_numpy(inputs), torch.from_numpy(labels))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        return value.item()

    return run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=15, help="rounds of each (default: %(default)s)")
    parser.add_argument("--steps", type=positive, default=20, help="steps in a round (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=2, help="PyTorch's (default: %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--keep-memory", action="store_true", help="give no freed memory back to the system (glibc)")
    arguments = parser.parse_args(argv)
    if arguments.keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    model = models.gpt(VOCABULARY, context=CONTEXT, layers=LAYERS, heads=HEADS, width=WIDTH)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (arguments.steps, BATCH, CONTEXT + 1))
    params, _ = jax.jit(model.init)(jax.random.key(0), tokens[0, :, :-1])
    state = weights.export_state(params, (), torch_models.gpt_names(LAYERS))

    def module():
        theirs = torch_models.GPT(VOCABULARY, CONTEXT, LAYERS, HEADS, WIDTH)
        theirs.load_state_dict({name: torch.tensor(np.array(array)) for name, array in state.items()})
        return theirs

    eager = module()
    steps = {"dlfn": dlfn_step(model, params), "PyTorch eager": torch_step(eager, eager.loss)}
    if not arguments.no_compile:
        compiled = module()
        steps["PyTorch compiled"] = torch_step(compiled, torch.compile(compiled.loss))
    losses = {}
    for name, step in list(steps.items()):
        try:
            losses[name] = [step(batch[:, :-1], batch[:, 1:]) for batch in tokens[:3]]
        except Exception as error:  # whatever torch.compile finds missing on this machine
            if name != "PyTorch compiled":
                raise
            print(f"torch.compile does not work here: {str(error).splitlines()[0]}")
            del steps[name]
    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["dlfn"], rtol=1e-4, err_msg=name)
    times = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            for batch in tokens:
                step(batch[:, :-1], batch[:, 1:])
            times[name].append((time.perf_counter() - begin) / len(tokens))
    for name, own in times.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(own, times["dlfn"]))
        print(f"{name:17} {1000 * statistics.median(own):7.2f} ms a step, {ratio:.2f} times that of dlfn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
