r"""An :class:`Op`: a function whose backward pass is written by hand, under every JAX transformation."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import _jax
from dlfn.core.errors import InputError
from dlfn.core.primitives import Call, bind, is_float, strong

__all__ = ["Op"]

P = ParamSpec("P")
R = TypeVar("R")
_Function = TypeVar("_Function", bound=Callable[..., Any])

_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


class Op(Generic[P, R]):
    r"""A differentiable function with a hand-derived backward pass.

    Args:
        definition: the textbook formula. Positional parameters are arrays or pytrees of arrays (``None`` for an absent
            one), keyword-only parameters are static configuration and must be hashable. It is the oracle that
            :func:`dlfn.autodiff` differentiates, and it lends the op its name, signature and docstring.
        forward: ``forward(*args, **static) -> (y, residuals)``: the fast, stable way to the same value; ``residuals``
            is any pytree.
        backward: ``backward(residuals, dy, **static) -> (d_arg0, d_arg1, ...)``: one cotangent per positional argument,
            of that argument's tree, shapes and dtypes. ``None`` stands for a zero, and is what integer and key
            arguments get. ``dy`` has the tree of ``y``, with ``None`` at outputs that are not floating point.
        check: ``check(*args, **static)``, raises on bad input before anything is traced.

    ``forward`` and ``backward`` may leave out the static parameters that they do not use. They can also be given after
    the fact by the decorators :meth:`def_forward`, :meth:`def_backward` and :meth:`def_check`.

    An Op works under ``jit``, ``grad``, ``vjp``, ``jvp``, ``jacfwd``, ``jacrev``, ``hessian``, ``vmap``, ``scan``,
    ``cond``, ``while_loop``, ``checkpoint``, ``shard_map``, sharded arrays and ``jax.export``.

    Raises:
        InputError: on an argument that is no array, on a complex array (ops are real: split it into real and imaginary
            parts), on an unknown or unhashable keyword, and when ``backward`` returns cotangents whose structure,
            shapes or dtypes differ from the arguments'.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @dlfn.Op
    ... def cube(x, *, scale=1.0):
    ...     return scale * x**3
    >>> @cube.def_forward
    ... def _(x, *, scale):
    ...     return scale * x * x * x, x
    >>> @cube.def_backward
    ... def _(x, dy, *, scale):
    ...     return (3 * scale * x * x * dy,)
    >>> print(jax.grad(cube)(2.0), jax.hessian(cube)(2.0), cube(2.0, scale=0.5))
    12.0 12.0 4.0
    """

    def __init__(
        self,
        definition: Callable[P, R],
        forward: Callable[..., Any] | None = None,
        backward: Callable[..., Any] | None = None,
        *,
        check: Callable[..., None] | None = None,
        name: str | None = None,
    ):
        functools.update_wrapper(self, definition)
        self.definition = definition
        self.name = name or definition.__name__
        self.signature = _unannotated(inspect.signature(definition))
        kinds = {p.kind for p in self.signature.parameters.values()}
        if inspect.Parameter.VAR_KEYWORD in kinds:
            raise InputError(f"Op {self.name!r}: the definition must name its keyword parameters, not take **kwargs")
        static = [p for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        self._static_names = [p.name for p in static]
        self._static_defaults = {p.name: p.default for p in static if p.default is not p.empty}
        self._forward = self._backward = self._check = None
        self._version = 0
        if forward is not None:
            self.def_forward(forward)
        if backward is not None:
            self.def_backward(backward)
        if check is not None:
            self.def_check(check)

    def __repr__(self) -> str:
        return f"<Op {self.name}{self.signature}>"

    def def_forward(self, function: _Function) -> _Function:
        """Sets ``forward``; for use as a decorator."""
        self._forward = _accepting(function, self._static_names)
        self._version += 1
        return function

    def def_backward(self, function: _Function) -> _Function:
        """Sets ``backward``; for use as a decorator."""
        self._backward = _accepting(function, self._static_names)
        self._version += 1
        return function

    def def_check(self, function: _Function) -> _Function:
        """Sets ``check``; for use as a decorator."""
        self._check = _accepting(function, self._static_names)
        return function

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """``(y, residuals)`` of a call of the op with these arguments, without any of the machinery around it."""
        if self._forward is None:
            raise InputError(f"Op {self.name!r} has no forward: give one with @{self.name}.def_forward")
        positional, static = self.bind_arguments(*args, **kwargs)
        result = self._forward(*positional, **static)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise InputError(f"Op {self.name!r}: forward must return (y, residuals), got {_brief(result)}")
        return result

    def backward(self, residuals: Any, dy: Any, **static: Any) -> tuple[Any, ...]:
        """One cotangent (or ``None``) per positional argument, without any of the machinery around it. Settings that
        are left out have the op's defaults."""
        if self._backward is None:
            raise InputError(f"Op {self.name!r} has no backward: give one with @{self.name}.def_backward")
        return self._backward(residuals, dy, **{**self._static_defaults, **static})

    @property
    def backward_function(self) -> Callable[..., Any] | None:
        """``backward`` as it was written, to say where."""
        return None if self._backward is None else inspect.unwrap(self._backward)

    def bind_arguments(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Splits a call into positional arguments, defaults filled in, and the full static configuration."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"{self.name}{self.signature}: {error}") from None
        bound.apply_defaults()
        for name, value in bound.kwargs.items():
            try:
                hash(value)
            except TypeError:
                raise InputError(
                    f"{self.name}: {name} is static configuration and must be hashable, got {_brief(value)}; "
                    "pass a tuple instead of a list, and arrays by position"
                ) from None
        return bound.args, bound.kwargs

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        positional, static = self.bind_arguments(*args, **kwargs)
        paths, tree = jax.tree_util.tree_flatten_with_path(positional)
        leaves = [self._as_array(leaf, path) for path, leaf in paths]
        if self._check is not None:
            self._check(*jax.tree.unflatten(tree, leaves), **static)
        leaves = _cast_to_common_varying(leaves)
        shapes = tuple((leaf.shape, leaf.dtype, jax.typeof(leaf).weak_type) for leaf in leaves)
        items = tuple(sorted(static.items()))
        wide = jnp.result_type(float) == jnp.float64
        return bind(Call(self, items, tree, shapes, self._version, repr(items), wide), leaves)

    def _as_array(self, leaf: Any, path: Any) -> jax.Array:
        if not isinstance(leaf, _ARRAYS) and not hasattr(leaf, "__jax_array__"):
            raise InputError(f"{self.name}: {self.argument_name(path)} must be an array, got {_brief(leaf)}")
        array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise InputError(
                f"{self.name}: {self.argument_name(path)} is {array.dtype}{list(array.shape)}, and ops are real; "
                "apply it to the real and imaginary parts"
            )
        return array

    def argument_name(self, path: Any) -> str:
        """How errors call the argument leaf at a tree path of the arguments' tuple: ``x``, ``params['w']``."""
        names = [p.name for p in self.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
        index = path[0].idx
        return (names[index] if index < len(names) else f"argument {index}") + jax.tree_util.keystr(path[1:])

    def flat_cotangents(self, call: Call, cotangents: Any) -> list[Any]:
        """What a backward pass returned, aligned with the flat arguments; raises if it does not fit them."""
        args = jax.tree.unflatten(call.tree, range(len(call.shapes)))
        if not isinstance(cotangents, tuple) or len(cotangents) != len(args):
            got = f"a tuple of {len(cotangents)}" if isinstance(cotangents, tuple) else _brief(cotangents)
            hint = "; return (dx,)" if len(args) == 1 and not isinstance(cotangents, tuple) else ""
            raise InputError(
                f"Op {self.name!r}: backward must return a tuple of {len(args)} cotangents, one per positional "
                f"argument of {self.name}{self.signature}, got {got}{hint}"
            )
        paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(args)[0]]
        flat: list[Any] = [None] * len(call.shapes)
        for index, (arg, cotangent) in enumerate(zip(args, cotangents, strict=True)):
            if cotangent is None:
                continue
            # None may also stand for single leaves of an argument, beside the None of an absent one.
            slots, expected = jax.tree.flatten(arg, is_leaf=_is_none)
            leaves, tree = jax.tree.flatten(cotangent, is_leaf=_is_none)
            if tree != expected:
                name = self.argument_name((jax.tree_util.SequenceKey(index),))
                raise InputError(
                    f"Op {self.name!r}: backward's cotangent of {name} has the structure {tree}, "
                    f"but {name} has {expected}"
                )
            for slot, leaf in zip(slots, leaves, strict=True):
                if slot is not None and leaf is not None:
                    flat[slot] = self._fitting_cotangent(self.argument_name(paths[slot]), leaf, *call.shapes[slot][:2])
        return flat

    def _fitting_cotangent(self, name: str, leaf: Any, shape: Any, dtype: Any) -> jax.Array:
        if not is_float(dtype):
            raise InputError(
                f"Op {self.name!r}: {name} is {dtype} and takes no cotangent; backward must return None for it, "
                f"got {_brief(leaf)}"
            )
        leaf = strong(leaf)
        if leaf.shape != tuple(shape) or leaf.dtype != dtype:
            raise InputError(
                f"Op {self.name!r}: backward's cotangent of {name} is {leaf.dtype}{list(leaf.shape)}, "
                f"but {name} is {dtype}{list(shape)}"
            )
        return leaf


def _unannotated(signature: inspect.Signature) -> inspect.Signature:
    """The signature without annotations, as errors and ``repr`` show it."""
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _accepting(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """``function`` called with those of the static parameters that its signature takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    taken = {p.name for p in parameters} & set(names)
    if taken == set(names):
        return function

    @functools.wraps(function)
    def accepting(*args: Any, **static: Any) -> Any:
        return function(*args, **{k: v for k, v in static.items() if k in taken})

    return accepting


def _brief(value: Any) -> str:
    if isinstance(value, jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _cast_to_common_varying(leaves: list[jax.Array]) -> list[jax.Array]:
    """Under ``shard_map`` with ``check_vma``, arguments must vary over the same mesh axes before the op is bound, so
    that the transpose of this cast sums the cotangents of the replicated ones."""
    varying = [_jax.varying_axes(leaf) for leaf in leaves]
    union = frozenset().union(*varying)
    if not union:
        return leaves
    return [
        jax.lax.pcast(leaf, tuple(sorted(union - axes)), to="varying") if union - axes else leaf
        for leaf, axes in zip(leaves, varying, strict=True)
    ]
