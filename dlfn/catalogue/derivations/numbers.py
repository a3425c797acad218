"""Both sides of a step as numbers: what the notation's words mean, and points to try them at."""

import ast
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

import dlfn
from dlfn import augmentation, calculus, linalg, linear_models, nn, ops, optimizers, probability, statistics
from dlfn.catalogue.derivations import algorithms
from dlfn.catalogue.derivations.notation import Derivation, Given, Step, expanded

__all__ = ["PUBLIC", "agree", "draw", "evaluate"]


def _derivative(f: Callable[[Any], Any], at: Any) -> Any:
    at = jnp.asarray(at, float)
    return (jax.grad if jnp.ndim(jax.eval_shape(f, at)) == 0 else jax.jacrev)(f)(at)


def _sum_over(f: Callable[[int], Any], n: int) -> Any:
    return functools.reduce(lambda a, b: a + b, map(f, range(int(n))))


def _product_over(f: Callable[[int], Any], n: int) -> Any:
    return functools.reduce(lambda a, b: a * b, map(f, range(int(n))))


def _integral(f: Callable[[Any], Any], low: float, high: float) -> Any:
    """By Gauss and Legendre in 40 pieces; infinite ends are cut at 12, for densities of a width of about 1."""
    ends = np.linspace(max(float(low), -12), min(float(high), 12), 41)
    x, weight = np.polynomial.legendre.leggauss(24)
    half = np.diff(ends)[:, None] / 2
    points = (ends[:-1, None] + half * (x + 1)).ravel()
    return jnp.sum(jax.vmap(f)(jnp.asarray(points)) * jnp.asarray((half * weight).ravel()))


# The objects that the documents' formulas are implemented by, by the names that they have in the derivations.
PUBLIC: dict[str, Any] = {
    "augmentation": augmentation,
    "calculus": calculus,
    "dlfn": dlfn,
    "linalg": linalg,
    "linear_models": linear_models,
    "nn": nn,
    "ops": ops,
    "optimizers": optimizers,
    "probability": probability,
    "statistics": statistics,
}

_WORDS: dict[str, Any] = {
    "D": _derivative,
    "Σ": _sum_over,
    "Π": _product_over,
    "integral": _integral,
    "stack": lambda f, n: jnp.stack([jnp.asarray(f(i)) for i in range(int(n))]),
    "inner": lambda a, b: jnp.sum(jnp.asarray(a) * jnp.asarray(b)),
    "outer": jnp.outer,
    "vec": lambda *entries: jnp.stack([jnp.asarray(entry, float) for entry in entries]),
    "mat": lambda *rows: jnp.stack([jnp.stack([jnp.asarray(entry, float) for entry in row]) for row in rows]),
    "diag": jnp.diag,
    "inv": jnp.linalg.inv,
    "norm": lambda x: jnp.sqrt(jnp.sum(jnp.asarray(x) ** 2)),
    "tr": jnp.trace,
    "eye": jnp.eye,
    "ones": lambda *shape: jnp.ones(shape),
    "zeros": lambda *shape: jnp.zeros(shape),
    "where": jnp.where,
    "ids": lambda *numbers: jnp.asarray(numbers, jnp.int32),
    "key": jax.random.key,
    "onehot": lambda i, n: jnp.eye(n)[jnp.asarray(i)],
    "erf": special.erf,
    "logΓ": special.gammaln,
    "ψ": special.digamma,
    "pi": np.pi,
    "oo": np.inf,
    **{name: getattr(jnp, name) for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh")},
    **{name: getattr(jnp, name) for name in ("abs", "sign", "sum", "mean", "floor", "arctan2", "cumsum", "round")},
    "max": lambda *a, **k: functools.reduce(jnp.maximum, a) if len(a) > 1 else jnp.max(a[0], **k),
    "min": lambda *a, **k: functools.reduce(jnp.minimum, a) if len(a) > 1 else jnp.min(a[0], **k),
    **{name: getattr(algorithms, name) for name in algorithms.__all__},
    **PUBLIC,
}

_SETS: Mapping[str, Callable[..., Any]] = {
    "real": lambda rng, *shape: rng.normal(size=shape),
    "positive": lambda rng, *shape: np.exp(rng.normal(size=shape) / 2),
    "unit": lambda rng, *shape: rng.uniform(0.1, 0.9, size=shape),
    "simplex": lambda rng, *shape: rng.dirichlet(2 * np.ones(shape[-1:]), size=shape[:-1]),
    "table": lambda rng, *shape: rng.dirichlet(2 * np.ones(np.prod(shape))).reshape(shape),
    "binary": lambda rng, *shape: rng.integers(0, 2, size=shape).astype(float),
    "symmetric": lambda rng, n: (lambda a: a + a.T)(rng.normal(size=(n, n))),
    "regular": lambda rng, n: rng.normal(size=(n, n)) / 2 + 2 * np.eye(n),
}


def draw(given: Given, rng: np.random.Generator) -> Any:
    """A random element of the set."""
    if given.set == "integer":
        low, high = given.bounds
        return (
            rng.integers(low, high, size=given.shape, endpoint=True)
            if given.shape
            else int(rng.integers(low, high + 1))
        )
    value = _SETS[given.set](rng, *given.shape)
    return value if np.ndim(value) else float(value)


def evaluate(step: Step, derivation: Derivation, seed: int) -> list[np.ndarray]:
    """The sides of a step in float64, at a random point."""
    rng = np.random.default_rng(seed)
    point = {given.name: draw(given, rng) for given in derivation.givens}
    with jax.enable_x64(True), _quickly_compiled():
        scope = _WORDS | {name: jnp.asarray(value) if np.ndim(value) else value for name, value in point.items()}
        return [np.asarray(eval(_compiled(side, derivation), scope), np.float64) for side in step.sides]


@contextlib.contextmanager
def _quickly_compiled() -> Iterator[None]:
    """Without most of XLA's optimisations, which take longer than what is computed once on a few numbers."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _compiled(side: ast.expr, derivation: Derivation) -> Any:
    return compile(ast.Expression(expanded(side, derivation)), f"<{derivation.id}>", "eval")


def agree(sides: list[np.ndarray], relation: str, tolerance: float) -> str | None:
    """None, or what is wrong with the sides."""
    for left, right in itertools.pairwise(sides):
        if left.shape != right.shape:
            return f"shapes {left.shape} and {right.shape}"
        size = max(1.0, float(np.max(np.abs(left), initial=0)), float(np.max(np.abs(right), initial=0)))
        distance = float(np.max(np.abs(left - right) if relation == "=" else right - left, initial=-np.inf))
        if not distance <= tolerance * size:
            return f"{_brief(left)} and {_brief(right)} differ by {distance:.2g}"
    return None


def _brief(side: np.ndarray) -> str:
    return f"{side:.12g}" if side.ndim == 0 else f"an array of norm {np.linalg.norm(side):.12g}"
