"""How a module lists its oracles."""

import importlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError

__all__ = ["Table", "agree", "normal", "require", "sklearn"]


class Table(dict[str, tuple[str, Callable[[], None]]]):
    """Comparisons by the id of the row. One that does not hold raises; ``run`` is called with float64 on."""

    def add(self, id: str, against: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
        def decorate(run: Callable[[], None]) -> Callable[[], None]:
            self[id] = against, run
            return run

        return decorate


def agree(got: Any, expected: Any, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=atol)


def require(holds: Any, what: str) -> None:
    """An assertion that ``python -O`` keeps."""
    if not holds:
        raise AssertionError(what)


def normal(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def sklearn(module: str) -> Any:
    """A module of scikit-learn, which nothing but five oracles needs. (SciPy is there, because JAX requires it.)

    Raises:
        InputError: where it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ModuleNotFoundError:
        raise InputError("this compares with scikit-learn, which is not installed: pip install scikit-learn") from None
