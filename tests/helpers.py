"""What several tests use."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp

import dlfn

__all__ = ["cotangent", "fresh_interpreter"]


def cotangent(y):
    """For an array y: numbers that are neither alike nor ordered, and the same in every dtype."""
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)


def fresh_interpreter(code):
    """What the code prints in an interpreter of its own, which finds this dlfn."""
    environment = {**os.environ, "PYTHONPATH": str(Path(dlfn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout
