"""Comparing gradients: by hand rule, by backprop, by autodiff of the definitions, by finite differences."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.advice import advice
from dlfn.check.measures import relative_error
from dlfn.check.opinions import Setting, derivatives, gather, reason, unlike_itself
from dlfn.check.precision import leaves_float64
from dlfn.check.probing import probed
from dlfn.check.result import Comparison
from dlfn.check.rows import rows, value_bound
from dlfn.core import InputError

__all__ = ["comparison", "leaf_name"]


def comparison(f: Callable[..., Any], args: Any, kwargs: Any, setting: Setting) -> Comparison:
    """The comparison of a function at arguments, in their own dtype where it does not run in float64."""

    def run(setting: Setting) -> Comparison:
        wide = jnp.dtype(setting.dtype or jnp.result_type(float)).itemsize == 8
        with jax.enable_x64(wide):
            return _compare(f, args, kwargs, setting)

    floats = [leaf for leaf in jax.tree.leaves((args, kwargs)) if _is_float(leaf)]
    narrow = any(jnp.result_type(leaf) != jnp.float64 for leaf in floats)
    try:
        return run(setting)
    except _InNarrowDtypes as found:
        why = found.where
        result = run(dataclasses.replace(setting, dtype=None, rounded=True))
    except Exception as error:
        failure = error if isinstance(error, InputError) else InputError(f"compare: {reason(error)}")
        if setting.dtype != "float64" or not narrow:
            raise failure from error
        why = f"not available: {reason(error)}"
        try:
            result = run(dataclasses.replace(setting, dtype=None))
        except Exception:
            raise failure from error
    note = f"float64: {why}; compared in the arguments' own dtype"
    return dataclasses.replace(result, notes=(note, *result.notes))


class _InNarrowDtypes(Exception):
    """What failed to agree in float64 is computed in a narrower dtype."""

    def __init__(self, where: str):
        super().__init__(where)
        self.where = where


def _compare(f: Any, args: Any, kwargs: Any, setting: Setting) -> Comparison:
    leaves, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
    values = [leaf for _, leaf in leaves]
    # A Python float that is given by keyword is configuration, as in jaxprs.trace.
    moving = [
        i for i, (path, leaf) in enumerate(leaves) if _is_float(leaf) and (path[0].idx == 0 or hasattr(leaf, "dtype"))
    ]
    if not moving:
        raise InputError("compare: no argument is a floating-point array, so there is no gradient to compare")
    names = [leaf_name(f, leaves[i][0], len(args)) for i in moving]
    point = [jnp.asarray(values[i], setting.dtype) for i in moving]

    def of_floats(function: Callable[..., Any], point: Any) -> Any:
        full = list(values)
        for i, value in zip(moving, point, strict=True):
            full[i] = value
        args, kwargs = tree.unflatten(full)
        return function(*args, **kwargs)

    rounded = setting.rounded or jnp.result_type(*point) != jnp.float64
    setting = dataclasses.replace(setting, rounded=rounded, tolerance=setting.tolerance or (None if rounded else 1e-10))
    ours = functools.partial(of_floats, f)
    truth = None if setting.reference is None else functools.partial(of_floats, setting.reference)
    result = _judged(ours, truth, names, point, setting)
    if setting.order == 2:
        result = _joined(result, _judged(*derivatives(ours, truth, point, setting), names, point, setting))
    culprits = any(row.culprit for row in result.rows)
    if result and setting.probe and culprits:
        note = "probes: left out, for the definition's derivative, which they compare with, is wrong"
        result = dataclasses.replace(result, notes=(*result.notes, note))
    elif result and setting.probe:
        arrays = [i for i, leaf in enumerate(values) if i in moving or _is_array(leaf)]
        labels = [leaf_name(f, leaves[i][0], len(args)) for i in arrays]
        cast = dict(zip(moving, point, strict=True))

        def of_arrays(function: Callable[..., Any], given: Any) -> Any:
            new = dict(zip(arrays, given, strict=True))
            args, kwargs = tree.unflatten([new.get(i, leaf) for i, leaf in enumerate(values)])
            return function(*args, **kwargs)

        of_ours, of_theirs = (functools.partial(of_arrays, function) for function in (f, setting.reference or f))
        result = probed(result, of_ours, of_theirs, [cast.get(i, values[i]) for i in arrays], labels, setting)
    return result


def _judged(f: Any, truth: Any, names: list[str], point: list[jax.Array], setting: Setting) -> Comparison:
    """The comparison of a function of a list of arrays; ``truth`` is the reference, or None."""
    found = gather(f, truth, point, setting)
    result = Comparison(
        tuple(rows(names, point, found, setting.tolerance)),
        relative_error(found.our_value, found.value),
        value_bound(point, found, setting.tolerance),
        setting.tolerance,
        str(jnp.result_type(*point)),
        tuple(found.notes),
        found.reference,
    )
    wrong = [f"{row.path}{row.culprit}" for row in result.rows if row.culprit]
    if wrong:
        note = (
            "hand rule and finite differences agree, and the definition's own derivative does not, at "
            f"{', '.join(wrong)}: the definition is at fault, not the rule"
        )
        result = dataclasses.replace(result, notes=(*result.notes, note))
    if result or found.hand is None:
        return result
    if found.types:
        return result
    if np.isfinite(found.value) and (difference := unlike_itself(found, point)) > _largest_bound(result):
        raise InputError(
            f"compare: two equal calls differ by {difference:.1g} of the value or a gradient, so there is no one "
            "gradient to compare; give the function its random numbers, or its key, as an argument"
        )
    if not setting.rounded and np.isfinite(found.value) and (where := leaves_float64(found.loss, point)):
        raise _InNarrowDtypes(where)
    more = advice(result, found.value, dict(zip(names, point)))
    return dataclasses.replace(result, notes=(*result.notes, *more))


def _largest_bound(result: Comparison) -> float:
    return max(result.value_bound, *(row.bound for row in result.rows))


def _joined(first: Comparison, second: Comparison) -> Comparison:
    """Both as one, with the rows of the second derivative after the others."""
    below = [dataclasses.replace(row, path=f"2nd order: {row.path}") for row in second.rows]
    notes = [f"2nd order: {note}" for note in second.notes if note not in first.notes]
    # The value of the second is the gradient of the first, which the definition may not have right.
    at_fault = any(row.culprit for row in first.rows)
    worse = first if not first.value_ok or second.value_ok or at_fault else second
    return dataclasses.replace(
        first,
        rows=(*first.rows, *below),
        notes=(*first.notes, *notes),
        value_error=worse.value_error,
        value_bound=worse.value_bound,
    )


def _is_float(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def leaf_name(f: Any, path: Any, n_args: int) -> str:
    """The name of a leaf in the table, such as ``params['w']``; its argument is numbered where it has no name."""
    inside, *rest = path[1:]
    name = str(getattr(inside, "key", getattr(inside, "idx", "")))
    if path[0].idx == 0:
        try:
            positional = [p.name for p in inspect.signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        except (TypeError, ValueError):
            positional = []
        name = positional[inside.idx] if inside.idx < len(positional) else f"argument {inside.idx}"
    return name + jax.tree_util.keystr(tuple(rest))
