#!/usr/bin/env python
"""Writes docs/museum.md: for every exhibit of the museum of wrong gradients in tests/museum, what dlfn.compare,
jax.test_util.check_grads and torch.autograd.gradcheck say of the wrong version at the same arguments. Needs torch."""

import argparse
import sys
import warnings
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import dlfn
from museum import EXHIBITS
from museum.exhibit import ORDINARY

PAGE = Path(__file__).resolve().parents[1] / "docs" / "museum.md"
INTRODUCTION = """\
# A museum of wrong gradients

Each of these shipped, in a kernel that many use. They are re-created in a few lines of plain JAX in
[tests/museum](../tests/museum), each in a wrong version and a right one, with arguments such as a project's own tests
have. The table says what finds the wrong version there: `dlfn.compare(f, probe=True)`, at the arguments as they are or
at the probe that is named; `jax.test_util.check_grads`, in reverse mode, of first order, with its own tolerances; and
`torch.autograd.gradcheck`, of a `torch.autograd.Function` that calls the same two passes, in float64, with its own
tolerances. Where these two pass, the arguments were ordinary: at those of the probe they may find it, too. `compare`
passes every right version, with all probes.

`python scripts/museum.py` writes this page.

"""
HEADER = """\
| exhibit | what is wrong | compare, probe=True | check_grads, float32 | check_grads, float64 | gradcheck |
|---|---|---|---|---|---|
"""
CHECKS = ("`compare`", "`check_grads` in float32", "in float64", "`gradcheck`")


def split(exhibit, dtype):
    """The wrong version as a function of its floating-point arguments, in a dtype, and those."""
    at = [i for i, x in enumerate(exhibit.args) if x is not None and jnp.issubdtype(x.dtype, jnp.floating)]

    def of_floats(*floats):
        full = list(exhibit.args)
        for i, value in zip(at, floats, strict=True):
            full[i] = value
        return exhibit.wrong(*full)

    floats = [exhibit.args[i] for i in at]
    return of_floats, [jnp.asarray(x, None if exhibit.options.get("dtype", "") is None else dtype) for x in floats]


def verdict(check):
    """In a word, what a check that raises or returns False for a wrong gradient says."""
    try:
        return "passes" if check() is not False else "**found**"
    except Exception as error:
        wrong = isinstance(error, AssertionError) or "acobian" in str(error) or "grad_output" in str(error)
        return "**found**" if wrong else f"cannot tell ({type(error).__name__})"


def by_compare(exhibit):
    result = dlfn.compare(exhibit.wrong, probe=True, coordinates=0, **exhibit.options)(*exhibit.args)
    if result:
        return "passes"
    return f"**found**: {result.failure.probe if result.failure else ORDINARY}"


def by_check_grads(exhibit, dtype):
    with jax.enable_x64(dtype == "float64"):
        f, floats = split(exhibit, dtype)
        return verdict(lambda: check_grads(f, floats, order=1, modes=["rev"]))


def by_gradcheck(exhibit):
    import torch

    with jax.enable_x64(True):
        f, floats = split(exhibit, "float64")
    if any(x.dtype != jnp.float64 for x in floats):
        return "needs float64"

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            outs, ctx.pull = jax.vjp(f, *[jnp.asarray(x.numpy()) for x in tensors])
            ctx.shapes = jax.tree.structure(outs)
            return tuple(torch.tensor(np.asarray(y)) for y in jax.tree.leaves(outs))

        @staticmethod
        def backward(ctx, *cotangents):
            dys = jax.tree.unflatten(ctx.shapes, [jnp.asarray(dy.numpy()) for dy in cotangents])
            return tuple(torch.tensor(np.asarray(dx)) for dx in ctx.pull(dys))

    def check():
        tensors = [torch.tensor(np.asarray(x, np.float64), requires_grad=True) for x in floats]
        return torch.autograd.gradcheck(Wrong.apply, tensors)

    with jax.enable_x64(True):
        return verdict(check)


def verdicts(exhibit):
    return (
        by_compare(exhibit),
        by_check_grads(exhibit, "float32"),
        by_check_grads(exhibit, "float64"),
        by_gradcheck(exhibit),
    )


def page(found):
    """The page, given the verdicts on each exhibit."""
    counts = [sum(cell.startswith("**found**") for cell in column) for column in zip(*found, strict=True)]
    summary = ", ".join(f"{check} {n}" for check, n in zip(CHECKS, counts, strict=True))
    lines = [
        f"| [{exhibit.name}]({exhibit.report}) | {exhibit.what} | {' | '.join(cells)} |\n"
        for exhibit, cells in zip(EXHIBITS, found, strict=True)
    ]
    return f"{INTRODUCTION}Of {len(lines)} exhibits, these find: {summary}.\n\n{HEADER}{''.join(lines)}"


def main(argv=None):
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_disable_most_optimizations", True)  # most of the time is compilation
    warnings.filterwarnings("ignore", module="torch")
    PAGE.write_text(page([verdicts(exhibit) for exhibit in EXHIBITS]), encoding="utf-8")


if __name__ == "__main__":
    main()
