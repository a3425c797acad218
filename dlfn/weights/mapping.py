"""Arrays by name, as in a ``state_dict``, to params and state, and back."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.weights.messages import Problems
from dlfn.weights.names import Link, Names, Place, ignores, links
from dlfn.weights.paths import by_path
from dlfn.weights.reading import Stored
from dlfn.weights.rules import Rule

__all__ = ["export_state", "import_state"]


def import_state(
    arrays: Mapping[str, Any], params_like: Any, state_like: Any, names: Names, *, gradients: bool = False
) -> tuple[Any, Any]:
    """Params and state from a flat dictionary of arrays, such as a PyTorch ``state_dict``.

    A name may hold placeholders, ``"blocks.{i}.weight"``, for numbers. Those that the path has too stand for the same
    number there, ``"blocks/{i}/w"``. The others count along the first axes of a stacked leaf, as in :class:`Repeat`:
    ``"blocks.{i}.weight": "blocks/w"`` takes the leaf's i-th slice from ``blocks.i.weight``.

    Args:
        arrays: numpy or JAX arrays, or tensors that numpy can read once detached.
        params_like: what ``init`` returns, or its shapes: ``jax.eval_shape(model.init, key, x)``.
        state_like: likewise.
        names: each name in ``arrays`` to a place, see :class:`To`. A tuple of names goes into a rule that takes
            several; what is :data:`ignored` has no place.
        gradients: whether the arrays are gradients with respect to those of a ``state_dict``. Where a leaf is the sum
            of two, as of an RNN's biases, the value is their sum, and the gradient that of either.

    Returns:
        ``(params, state)``, as JAX arrays in the dtypes of ``params_like`` and ``state_like``: floating-point arrays
        are rounded to them once, sums from float64, integers must fit, and nothing turns from the one into the other.

    Raises:
        InputError: listing at once every name that is missing in ``arrays``, every array that no name takes, every
            wrong shape or dtype, and every leaf without a source; what differs in the number of a block alone is one
            line, and of one kind there are twenty lines at most. A prefix that all names lack, or arrays of other
            sizes throughout, are one line each.

    >>> import numpy as np, jax, jax.numpy as jnp, dlfn.nn as nn
    >>> from dlfn.weights import To, import_state, transpose
    >>> model = nn.Serial(hidden=nn.Linear(3), activation=nn.ReLU())
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2)))
    >>> names = {"0.weight": To("hidden/w", transpose), "0.bias": "hidden/b"}
    >>> arrays = {"0.weight": np.arange(6.0).reshape(3, 2), "0.bias": np.zeros(3)}
    >>> params, state = import_state(arrays, params, state, names)
    >>> print(params["hidden"]["w"])
    [[0. 2. 4.]
     [1. 3. 5.]]
    >>> import_state({"0.weight": np.zeros((2, 2)), "0.bais": np.zeros(3)}, params, state, names)
    Traceback (most recent call last):
    dlfn.core.errors.InputError: import_state: 3 mismatches
      0.bias: missing; did you mean '0.bais', which no name takes?
      0.bais: no name takes it; map it to ignored if it has no place
      0.weight: float64[2, 2] becomes [2, 2], but params hidden/w is float32[2, 3]
    """
    if not isinstance(arrays, Mapping):
        hint = "; pass its state_dict()" if hasattr(arrays, "state_dict") else ""
        raise InputError(
            f"import_state: arrays is of type {type(arrays).__name__}, and must be a dictionary of arrays by name{hint}"
        )
    leaves, problems = _leaves(params_like, state_like), Problems()
    found = links(names, leaves, problems.lines)
    taken = {name for link in found for name in link.names}
    is_ignored = ignores(names)
    problems.unexpected = [name for name in arrays if name not in taken and not is_ignored(name)]
    of_shape: dict[Any, list[str]] = {}
    for name in problems.unexpected:
        of_shape.setdefault(_shape(arrays, name), []).append(name)
    filled: dict[Place, Any] = {}
    for link in found:
        if missing := [name for name in link.names if name not in arrays]:
            shapes = dict(zip(link.names, _shapes(link, leaves), strict=True))
            problems.missing |= {name: of_shape.get(shapes[name], ()) for name in missing}
        else:
            _load(link, [_as_numpy(arrays[name]) for name in link.names], leaves, filled, problems, gradients)
    problems.raise_any("import_state", taken - problems.missing.keys())
    params, state = (
        jax.tree.unflatten(jax.tree.structure(like), [_as_jax(filled.pop((tree, path))) for path in by_path(like)])
        for tree, like in (("params", params_like), ("state", state_like))
    )
    return params, state


def export_state(params: Any, state: Any, names: Names, *, gradients: bool = False) -> dict[str, np.ndarray]:
    """The inverse of :func:`import_state`: a flat dictionary of numpy arrays in the leaves' dtypes, but for those
    that a rule of one's own makes in another dtype than float64.

    Importing it again gives equal params and state. What is :data:`ignored` is not written.

    Args:
        params: of a model, or with ``gradients`` the gradient with respect to them, or its running mean.
        state: likewise.
        names: as for :func:`import_state`.
        gradients: whether these are gradients. The values of a leaf that is the sum of two biases, as in an RNN, are
            written as the sum and zeros; its gradient is that of both.

    Raises:
        InputError: listing at once every leaf that no name takes, and every leaf that does not fit its rule.

    >>> import jax.numpy as jnp
    >>> from dlfn.weights import Summed, To, export_state
    >>> names = {("bias_ih", "bias_hh"): To("b", Summed())}
    >>> print(export_state({"b": jnp.array([0.5])}, (), names))
    {'bias_ih': array([0.5], dtype=float32), 'bias_hh': array([0.], dtype=float32)}
    >>> print(export_state({"b": jnp.array([0.5])}, (), names, gradients=True))
    {'bias_ih': array([0.5], dtype=float32), 'bias_hh': array([0.5], dtype=float32)}
    """
    leaves, problems = _leaves(params, state), Problems()
    values = {place: _as_numpy(leaf) for place, leaf in leaves.items()}
    arrays: dict[str, np.ndarray] = {}
    for link in links(names, leaves, problems.lines):
        pieces = [values[place][link.at] for place in link.places]
        dtype = functools.reduce(jnp.promote_types, (piece.dtype for piece in pieces))
        save = link.rule.save_gradients if gradients else link.rule.save
        try:
            saved = save(*_as_computed(link.rule, [_cast(piece, dtype) for piece in pieces], gradients))
            # Not ascontiguousarray, which makes a row of a scalar.
            arrays |= {
                name: np.array(_as_leaf(array, dtype), order="C") for name, array in zip(link.names, saved, strict=True)
            }
        except (ValueError, IndexError) as error:
            leaves_of_it = ", ".join(f"{' '.join(place)}{list(link.at) or ''}" for place in link.places)
            problems.lines.append(f"{link}: {error} ({leaves_of_it})")
    problems.raise_any("export_state")
    return arrays


def _leaves(params: Any, state: Any) -> dict[Place, Any]:
    trees = (("params", params), ("state", state))
    return {(tree, path): leaf for tree, values in trees for path, leaf in by_path(values).items()}


def _load(
    link: Link,
    arrays: list[Any],
    leaves: Mapping[Place, Any],
    filled: dict[Place, Any],
    problems: Problems,
    gradients: bool,
) -> None:
    given = ", ".join(f"{array.dtype}{list(array.shape)}" for array in arrays)
    load = link.rule.load_gradients if gradients else link.rule.load
    try:
        pieces = load(*_as_computed(link.rule, arrays, gradients))
    except (ValueError, IndexError) as error:
        problems.lines.append(f"{link}: {given} does not fit {link.rule}: {error}")
        return
    for place, piece in zip(link.places, pieces, strict=True):
        like = leaves[place]
        shape, where = tuple(like.shape[len(link.at) :]), f"{' '.join(place)}{list(link.at) or ''}"
        expected = f"but {where} is {like.dtype}{list(shape)}"
        if piece.shape != shape:
            problems.shapes.append(f"{link}: {given} becomes {list(piece.shape)}, {expected}")
            problems.sizes |= {sizes for sizes in zip(piece.shape, shape) if len(set(sizes)) > 1}
            continue
        try:
            cast = _cast(piece, like.dtype)
        except ValueError as error:
            problems.lines.append(f"{link}: {given} {error}, {expected}")
            continue
        if not link.at:
            filled[place] = _as_jax(cast)
            continue
        if place not in filled:
            filled[place] = np.empty(like.shape, like.dtype)
        filled[place][link.at] = cast


def _as_jax(array: Any) -> jax.Array:
    """A copy, made by now: JAX would copy later on, and keep all of what it copies from until then."""
    return array if isinstance(array, jax.Array) else jax.block_until_ready(jnp.array(array))


def _shape(arrays: Mapping[str, Any], name: str) -> Any:
    return arrays.shape_of(name).shape if isinstance(arrays, Stored) else tuple(np.shape(arrays[name]))


def _shapes(link: Link, leaves: Mapping[Place, Any]) -> list[Any]:
    """The shapes of the arrays that a rule makes of its leaves, None where it makes none."""
    pieces = [np.broadcast_to(np.int8(0), leaves[place].shape[len(link.at) :]) for place in link.places]
    try:
        return [array.shape for array in link.rule.save(*pieces)]
    except (ValueError, IndexError):
        return [None] * len(link.names)


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The array in another dtype, where nothing but digits is lost."""
    if array.dtype == dtype:
        return array
    if not any(
        jnp.issubdtype(dtype, kind) and jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)
    ):
        raise ValueError("is of another kind")
    with np.errstate(over="ignore"):
        cast = (_to_odd(array) if array.dtype == np.float64 and np.dtype(dtype).itemsize < 4 else array).astype(dtype)
    lost = cast != array if jnp.issubdtype(dtype, jnp.integer) else np.isfinite(array) & ~np.isfinite(cast)
    if lost.any():
        raise ValueError("has values out of range")
    return cast


def _as_computed(rule: Rule, arrays: Sequence[np.ndarray], gradients: bool) -> Sequence[np.ndarray]:
    """The arrays as a rule gets them: floating-point ones in float64 where it computes."""
    if rule.exact and not gradients:
        return arrays
    return [array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array for array in arrays]


def _as_leaf(array: np.ndarray, dtype: Any) -> np.ndarray:
    """What a rule has computed in float64, in the dtype of its leaf; any other dtype is the choice of the rule."""
    return _cast(array, dtype) if array.dtype == np.float64 and jnp.issubdtype(dtype, jnp.floating) else array


def _to_odd(array: np.ndarray) -> np.ndarray:
    """float64 to float32, where the last bit is 1 wherever digits were lost. That is no tie in any narrower dtype, so
    that rounding once more is as rounding once; the way of ml_dtypes, to the nearest float32 and on, is not."""
    nearest = array.astype(np.float32)
    cut = np.asarray(np.where(np.abs(nearest) > np.abs(array), np.nextafter(nearest, np.float32(0)), nearest))
    return (cut.view(np.uint32) | (cut != array)).view(np.float32)


def _as_numpy(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):  # a tensor of PyTorch, which need not be installed
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # numpy has none
            return np.asarray(array.float()).astype(jnp.bfloat16)
    try:
        return np.asarray(array)
    except TypeError as error:
        raise InputError(f"weights are plain arrays, got {array!r:.60}: {error}") from None
