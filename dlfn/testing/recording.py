"""Calls of custom rules, kept while other code runs: which rule, and at which arguments."""

import contextlib
import dataclasses
import functools
import inspect
import os
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import Op, jaxprs

__all__ = ["Recorded", "Recorder"]

_KINDS: tuple[Any, ...] = (jax.custom_vjp, jax.custom_jvp, Op)
_ARRAYS = jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct
_JAX, _DLFN = (f"{folder}{os.sep}" for folder in (Path(jax.__file__).parent, Path(__file__).parents[1]))
# A function that makes a rule makes another one in every call, which may close over something else.
_PER_LINE = 8


@dataclasses.dataclass
class Recorded:
    """A rule and the arguments of one call of it, those of the same types standing for each other.

    Attributes:
        rule: the function with a custom rule.
        place: where it is defined, ``path/file.py:12``.
        called_at: the same of the call.
        tree, leaves: the arguments ``(args, kwargs)``; a leaf is a NumPy array, a ``jax.ShapeDtypeStruct`` where the
            value was traced, and what it was where it is no array.
    """

    rule: Any
    place: str
    called_at: str
    tree: Any
    leaves: list[Any]

    @property
    def name(self) -> str:
        return getattr(self.rule, "__name__", "rule")

    @property
    def drawn(self) -> bool:
        """Whether values have to be drawn, as only their types are known."""
        return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in self.leaves)

    def __str__(self) -> str:
        leaves = [f"{x.dtype}{list(x.shape)}" if isinstance(x, _ARRAYS) else repr(x)[:30] for x in self.leaves]
        return f"{self.place} {self.name}({', '.join(leaves)})"

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments. What is not known is drawn: floats from the normal distribution; integers, which may be
        indices, are 0."""
        rng = np.random.default_rng(0)
        return self.tree.unflatten([_drawn(x, rng) if isinstance(x, jax.ShapeDtypeStruct) else x for x in self.leaves])


class Recorder:
    """Keeps the calls of custom rules that are met while :meth:`recording`. JAX's own rules, and dlfn's, are for their
    own tests; calls without a float as argument and as result have no gradient."""

    def __init__(self) -> None:
        self._calls: dict[Any, Recorded] = {}
        self._per_line: Counter[Any] = Counter()
        self.crowded: set[str] = set()  # places of which more rules were met than are kept

    @property
    def calls(self) -> list[Recorded]:
        return list(self._calls.values())

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        originals = [kind.__call__ for kind in _KINDS]
        try:
            for kind, original in zip(_KINDS, originals, strict=True):
                kind.__call__ = self._recorded(original)
            yield
        finally:
            for kind, original in zip(_KINDS, originals, strict=True):
                kind.__call__ = original

    def _recorded(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(rule: Any, *args: Any, **kwargs: Any) -> Any:
            outs = original(rule, *args, **kwargs)
            if any(map(_is_float, jax.tree.leaves(outs))):
                self._keep(rule, args, kwargs)
            return outs

        return call

    def _keep(self, rule: Any, args: Any, kwargs: Any) -> None:
        place = _place(rule)
        leaves, tree = jax.tree.flatten((args, kwargs))
        leaves = [_as_array(leaf) for leaf in leaves]
        if not place or not any(map(_is_float, leaves)):
            return
        signature = (str(tree), tuple(_type(leaf) for leaf in leaves))
        key = (id(rule), signature)
        if key not in self._calls:
            if self._per_line[place, signature] == _PER_LINE:
                self.crowded.add(place)
                return
            self._per_line[place, signature] += 1
        elif not self._calls[key].drawn:
            return
        self._calls[key] = Recorded(rule, place, _caller(), tree, [_kept(leaf) for leaf in leaves])


def _type(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, _ARRAYS) else repr(leaf)


def _as_array(leaf: Any) -> Any:
    """A number that JAX has given a dtype is an array."""
    dtype = getattr(leaf, "dtype", None) if isinstance(leaf, float) else None
    return leaf if dtype is None else np.asarray(leaf, dtype)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, float) or (isinstance(leaf, _ARRAYS) and jnp.issubdtype(leaf.dtype, jnp.floating))


def _kept(leaf: Any) -> Any:
    """A copy, as an array may be donated or written to later."""
    if not isinstance(leaf, _ARRAYS):
        return leaf
    value = jaxprs.concrete(leaf)
    if value is None:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return value if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) else np.array(value)


def _drawn(kind: jax.ShapeDtypeStruct, rng: np.random.Generator) -> Any:
    if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
        return jax.random.key(0) if kind.shape == () else jax.random.split(jax.random.key(0), kind.shape)
    if jnp.issubdtype(kind.dtype, np.floating):
        return np.asarray(rng.normal(size=kind.shape)).astype(kind.dtype)
    return np.zeros(kind.shape, kind.dtype)


def _caller() -> str:
    """The innermost line of the call that is neither JAX's nor dlfn's."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith((_JAX, _DLFN)):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _place(rule: Any) -> str:
    """Where a rule is defined: the first line of its functions that is not JAX's or dlfn's, or nothing."""
    if isinstance(rule, Op):
        functions, libraries = [rule.definition], [_DLFN]
    else:
        functions = [getattr(rule, name, None) for name in ("fun", "fwd", "bwd", "jvp")]
        libraries = [_DLFN, _JAX]
    places = (place for function in functions for place in _places(function))
    return next((place for place in places if not place.startswith(tuple(libraries))), "")


_EMPTY = types.CellType()  # that of a name which has no value yet


def _places(function: Any) -> Iterator[str]:
    """Where a function is defined, and those that it closes over, as what ``jax.custom_gradient`` makes does."""
    function = _plain(function)
    cells = [cell for cell in getattr(function, "__closure__", None) or () if cell != _EMPTY]
    for part in (function, *(_plain(cell.cell_contents) for cell in cells)):
        if code := getattr(part, "__code__", None):
            yield f"{code.co_filename}:{code.co_firstlineno}"


def _plain(function: Any) -> Any:
    function = inspect.unwrap(function) if callable(function) else function
    return _plain(function.func) if isinstance(function, functools.partial) else function
