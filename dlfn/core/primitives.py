r"""The two primitives that carry an Op through JAX.

``dlfn_op``
    evaluates ``forward``. Its JVP rule evaluates it with residuals, and binds

``dlfn_linear``
    the derivative :math:`t \mapsto J t`, linear in the tangents, holding the residuals. Its transpose is ``backward``;
    evaluated forwards it is the transpose *of* ``backward``, so forward mode follows from the same rule, keeps its
    exactness and saves nothing more.

``jax.custom_vjp`` would be shorter, but forward mode (and with it ``jax.hessian``) fails on it.

All that an equation needs is in hashable parameters. With a closure in their place each eager call would be a new
program: it would be compiled every time, and compiled programs would pile up in JAX's cache.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, unmapped_aval
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType, NamedSharding, PartitionSpec, get_abstract_mesh, reshard, use_abstract_mesh

from dlfn.core import _jax, jaxprs

__all__ = [
    "Call", "Level", "Linear", "bind", "evaluate", "is_float", "linear_p", "mapped", "one_mesh", "op_flat", "op_p",
    "strong", "transpose",
]  # fmt: skip


class Level(NamedTuple):
    """One ``vmap``: the axis of every flat operand, and what JAX knows of it."""

    in_axes: tuple[int | None, ...]
    size: Any
    name: Any
    spmd_name: Any


class Call(NamedTuple):
    """Which op is applied to what: everything by which one compiled program differs from another. The innermost
    ``vmap`` comes first in ``levels``."""

    op: Any
    static: tuple[tuple[str, Any], ...]
    tree: Any
    shapes: tuple[tuple[tuple[Any, ...], Any, bool], ...]  # shape, dtype, whether weak, without the levels' axes
    version: int  # of the op's rules: compiled programs must not outlive a rule that was replaced
    exact: str  # the static configuration to the letter: 0.0 equals -0.0, and 1 equals True
    wide: bool  # whether x64 is enabled: integer outputs depend on it
    levels: tuple[Level, ...] = ()

    def __repr__(self) -> str:
        static = "".join(f" {name}={value!r}" for name, value in self.static)
        return f"<{self.op.name}{static}{''.join(f' vmap[{level.size}]' for level in self.levels)}>"


class Linear(NamedTuple):
    """The derivative of a call in its flat arguments ``wrt``: operands are the residuals, then their tangents."""

    call: Call
    wrt: tuple[int, ...]
    y_tree: Any
    y_floats: tuple[bool, ...]
    rest_tree: Any
    levels: tuple[Level, ...] = ()  # vmaps around the derivative itself: every tangent has their axis in front

    def __repr__(self) -> str:
        return f"<d {self.call!r}>"


def is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def strong(x: Any) -> jax.Array:
    """``x`` as an array whose type is not weak. An output's type must not depend on how it was computed, or the carry
    of a loop would have one type by the definition and another by the forward."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype) if jax.typeof(x).weak_type else x


@contextlib.contextmanager
def one_mesh(kinds: Iterable[Any]) -> Iterator[Callable[[Sequence[jax.Array]], list[jax.Array]]]:
    """Runs rules on the mesh with Explicit axes that one of the types ``kinds`` names, if one does, whether or not the
    user has set it as JAX's mesh. Rules may then rely on the sharding of every argument, and of the constants that they
    make: the function that this yields replicates arrays that are on no mesh, as JAX does where it operates on both."""
    meshes = (kind.sharding.mesh for kind in kinds)
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        yield list
        return
    everywhere = NamedSharding(mesh, PartitionSpec())

    def placed(leaves: Sequence[jax.Array]) -> list[jax.Array]:
        return [reshard(leaf, everywhere) if jax.typeof(leaf).sharding.mesh.empty else leaf for leaf in leaves]

    with use_abstract_mesh(mesh) if get_abstract_mesh().empty else contextlib.nullcontext():
        yield placed


# Evaluation on flat arguments: first the op itself, then the same under the vmaps around it.


def _forward(call: Call, residuals: bool, *leaves: jax.Array) -> Any:
    with one_mesh(map(jax.typeof, leaves)) as placed:
        y, rest = call.op.forward(*call.tree.unflatten(placed(leaves)), **dict(call.static))
        y, rest = jax.tree.map(strong, (y, rest))
    return (y, rest) if residuals else y


def _backward(linear: Linear, rest: Sequence[jax.Array], dy: Sequence[jax.Array]) -> list[Any]:
    call = linear.call
    with one_mesh(map(jax.typeof, [*rest, *dy])) as placed:
        given = iter(placed(dy))
        dy = linear.y_tree.unflatten([next(given) if floating else None for floating in linear.y_floats])
        cotangents = call.op.backward(linear.rest_tree.unflatten(placed(rest)), dy, **dict(call.static))
        flat = call.op.flat_cotangents(call, cotangents)
    return [flat[i] for i in linear.wrt]


def evaluate(call: Call, residuals: bool, *leaves: jax.Array) -> Any:
    """``y``, or ``(y, residuals)``. Batched, every leaf of ``y`` carries the axis in front; a residual carries it only
    if it depends on a batched argument, so that weights shared by a batch are saved once."""
    fn = functools.partial(_forward, call, residuals)
    for i, level in enumerate(call.levels):
        out_axes: Any = 0
        if residuals:
            tree, axes = _residual_axes(call)
            out_axes = (0, tree.unflatten(axes[i]))
        fn = mapped(fn, level, level.in_axes, out_axes)
    return fn(*leaves)


def transpose(linear: Linear, rest: Sequence[jax.Array], dy: Sequence[jax.Array]) -> list[Any]:
    """``backward`` on flat lists: residuals and the cotangents of floating-point outputs in, cotangents of the
    arguments ``wrt`` out, ``None`` where it gives none."""
    fn = functools.partial(_backward, linear)
    if linear.call.levels:
        for level, rest_axes in zip(linear.call.levels, _residual_axes(linear.call)[1], strict=True):
            fn = _vmap_transposed(fn, level, rest_axes, [level.in_axes[i] for i in linear.wrt])
    for level in linear.levels:
        fn = _vmap_transposed(fn, level, level.in_axes[: len(rest)], [0] * len(linear.wrt))
    return fn(list(rest), list(dy))


def mapped(fn: Callable[..., Any], level: Level, in_axes: Any, out_axes: Any) -> Callable[..., Any]:
    """``fn`` under a ``vmap`` that JAX has begun."""
    return jax.vmap(fn, in_axes, out_axes, axis_name=level.name, axis_size=level.size, spmd_axis_name=level.spmd_name)


def _vmap_transposed(
    fn: Callable[..., Any], level: Level, rest_axes: Sequence[int | None], out_axes: Sequence[int | None]
) -> Callable[..., Any]:
    batched = mapped(fn, level, (list(rest_axes), 0), 0)

    def unmapped(cotangent, axis):
        # An argument that the whole batch shares collects the cotangents of all its members.
        return jnp.sum(cotangent, axis=0) if axis is None else jnp.moveaxis(cotangent, 0, axis)

    return lambda rest, dy: [
        None if c is None else unmapped(c, axis) for c, axis in zip(batched(rest, dy), out_axes, strict=True)
    ]


def _residual_axes(call: Call) -> tuple[Any, tuple[tuple[int | None, ...], ...]]:
    """The tree of the residuals, and for each level the batch axis, 0 or None, of every leaf."""
    tree, sources = _residual_sources(call)
    return tree, tuple(
        tuple(0 if any(level.in_axes[i] is not None for i in source) else None for source in sources)
        for level in call.levels
    )


@functools.lru_cache(maxsize=4096)
def _residual_sources(call: Call) -> tuple[Any, list[Any]]:
    """The tree of the residuals, and for every leaf the arguments that it depends on."""
    fn = functools.partial(_forward, call._replace(levels=()), True)
    avals = [jax.ShapeDtypeStruct(shape, dtype, weak_type=weak) for shape, dtype, weak in call.shapes]
    for level in call.levels:
        fn = mapped(fn, level, level.in_axes, 0)
        avals = [_with_axis(aval, axis, level.size) for aval, axis in zip(avals, level.in_axes, strict=True)]
    jaxpr, (y, rest) = jax.make_jaxpr(fn, return_shape=True)(*avals)
    sources = jaxprs.dependencies(jaxpr)[len(jax.tree.leaves(y)) :]
    return jax.tree.structure(rest), sources


def _with_axis(aval: jax.ShapeDtypeStruct, axis: int | None, size: Any) -> jax.ShapeDtypeStruct:
    if axis is None:
        return aval
    shape = (*aval.shape[:axis], size, *aval.shape[axis:])
    return jax.ShapeDtypeStruct(shape, aval.dtype, weak_type=aval.weak_type)


# dlfn_op

op_p = Primitive("dlfn_op")
op_p.multiple_results = True

# Eager calls run compiled, one program per call signature; inside another jit these dissolve.
evaluate_compiled = jax.jit(evaluate, static_argnums=(0, 1), inline=True)


def bind(call: Call, leaves: Sequence[jax.Array]) -> Any:
    """Applies the op to flat arguments."""
    outs = op_p.bind(*leaves, call=call, residuals=False)
    return _outputs(call, False, *map(jax.typeof, leaves))[0].unflatten(outs)


@functools.lru_cache(maxsize=4096)
def _outputs(call: Call, residuals: bool, *avals: Any) -> tuple[Any, list[Any]]:
    """Tree and types of the outputs. Traced on the arguments' own types: shape and dtype alone would lose their
    sharding and the mesh axes over which they vary."""
    traced = evaluate_compiled.trace(call, residuals, *avals)
    return jax.tree.structure(traced.out_info), list(traced.jaxpr.out_avals)


@functools.lru_cache(maxsize=4096)
def _held_residuals(call: Call, *avals: Any) -> list[int | None]:
    """For each residual leaf, which of the arguments and then outputs it is, if any."""
    jaxpr, _ = jaxprs.parts(evaluate_compiled.trace(call, True, *avals).jaxpr)
    n_y = _outputs(call, True, *avals)[0].children()[0].num_leaves
    held = {id(atom): i for i, atom in reversed([*enumerate([*jaxpr.invars, *jaxpr.outvars[:n_y]])])}
    return [held.get(id(atom)) for atom in jaxpr.outvars[n_y:]]


def _op_impl(*leaves: Any, call: Call, residuals: bool) -> list[Any]:
    return jax.tree.leaves(evaluate_compiled(call, residuals, *leaves))


def op_flat(*leaves: Any, call: Call, residuals: bool) -> list[Any]:
    # JAX may pass constants of a program as numbers, which are not arrays yet.
    return jax.tree.leaves(evaluate(call, residuals, *map(jnp.asarray, leaves)))


def _op_jvp(primals: Any, tangents: Any, *, call: Call, residuals: bool) -> Any:
    outs = op_p.bind(*primals, call=call, residuals=True)
    y_tree, rest_tree = _outputs(call, True, *map(jax.typeof, primals))[0].children()
    y = outs[: y_tree.num_leaves]
    # A residual that is an argument or an output is held as that very value. If it were an output of its own, a loop
    # would stack a second copy of it: of the weights, which the loop has as constants, and of every value that two ops
    # save.
    held = [*primals, *y]
    rest = [
        out if i is None else held[i]
        for i, out in zip(_held_residuals(call, *map(jax.typeof, primals)), outs[len(y) :], strict=True)
    ]
    wrt = tuple(i for i, t in enumerate(tangents) if type(t) is not ad.Zero and is_float(call.shapes[i][1]))
    moved = [ad.Zero(jax.typeof(out).to_tangent_aval()) for out in outs]
    if wrt:
        floats = tuple(is_float(leaf.dtype) for leaf in y)
        linear = Linear(call, wrt, y_tree, floats, rest_tree)
        out_avals = tuple(jax.typeof(leaf) for leaf in y if is_float(leaf.dtype))
        dy = linear_p.bind(*rest, *[tangents[i] for i in wrt], linear=linear, out_avals=out_avals)
        _put(moved, [i for i, floating in enumerate(floats) if floating], dy)
        if residuals:
            _put(moved, *_residual_tangents(call, len(y), primals, wrt, [tangents[i] for i in wrt]))
    return (outs, moved) if residuals else (y, moved[: len(y)])


def _put(values: list[Any], positions: Sequence[int], new: Sequence[Any]) -> None:
    for i, value in zip(positions, new, strict=True):
        values[i] = value


def _residual_tangents(call: Call, n_y: int, primals: Any, wrt: Any, tangents: Any) -> tuple[list[int], list[Any]]:
    """Second order: how the residuals move with the arguments, which is for JAX to differentiate. Those that do not are
    left out: a tangent of zeros would be multiplied by slopes that may be infinite or nan."""
    depends = [True] * n_y + [not source.isdisjoint(wrt) for source in _residual_sources(call)[1]]
    positions: list[int] = []

    def rest(*moving):
        leaves = list(primals)
        _put(leaves, wrt, moving)
        outs = op_flat(*leaves, call=call, residuals=True)
        positions[:] = [i for i in range(n_y, len(outs)) if depends[i] and is_float(outs[i].dtype)]
        return [outs[i] for i in positions]

    tangents = jax.jvp(rest, [primals[i] for i in wrt], tangents)[1]
    return positions, tangents


def _op_batch(axis: Any, leaves: Any, dims: Any, *, call: Call, residuals: bool) -> Any:
    if all(dim is None for dim in dims):  # JAX calls this rule even then
        outs = op_p.bind(*leaves, call=call, residuals=residuals)
        return outs, [None] * len(outs)
    call = call._replace(levels=(*call.levels, Level(tuple(dims), axis.size, axis.name, axis.spmd_name)))
    outs = op_p.bind(*leaves, call=call, residuals=residuals)
    axes = _residual_axes(call)[1][-1] if residuals else ()
    return outs, [0] * (len(outs) - len(axes)) + list(axes)


op_p.def_impl(_op_impl)
op_p.def_abstract_eval(lambda *avals, call, residuals: _outputs(call, residuals, *avals)[1])
ad.primitive_jvps[op_p] = _op_jvp
batching.fancy_primitive_batchers[op_p] = _op_batch
mlir.register_lowering(op_p, mlir.lower_fun(op_flat, multiple_results=True))


# dlfn_linear

linear_p = Primitive("dlfn_linear")
linear_p.multiple_results = True


def _apply(*operands: jax.Array, linear: Linear, out_avals: tuple[Any, ...]) -> list[jax.Array]:
    """The transpose of ``backward``, applied to the tangents."""
    rest, tangents = _operands(linear, operands)
    with one_mesh([*map(jax.typeof, operands), *out_avals]) as placed:
        zeros = list(map(_jax.zeros, out_avals))
        cotangents, pullback = jax.vjp(lambda dy: transpose(linear, rest, dy), zeros)
        pairs = zip(cotangents, placed(tangents), strict=True)
        return pullback([None if c is None else t for c, t in pairs])[0]


def _operands(linear: Linear, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    n = len(operands) - len(linear.wrt)
    return list(operands[:n]), list(operands[n:])


_apply_compiled = jax.jit(_apply, static_argnames=("linear", "out_avals"), inline=True)
transpose_compiled = jax.jit(transpose, static_argnums=0, inline=True)


def _linear_jvp(operands: Any, dots: Any, *, linear: Linear, out_avals: Any) -> Any:
    rest, tangents = _operands(linear, operands)
    rest_dots, tangent_dots = _operands(linear, dots)
    outs = linear_p.bind(*operands, linear=linear, out_avals=out_avals)
    total: list[Any] = [ad.Zero(aval) for aval in out_avals]
    if any(type(t) is not ad.Zero for t in tangent_dots):
        moved = map(ad.instantiate_zeros, tangent_dots)
        total = linear_p.bind(*rest, *moved, linear=linear, out_avals=out_avals)
    moving = [i for i, t in enumerate(rest_dots) if type(t) is not ad.Zero and is_float(rest[i].dtype)]
    if moving:

        def through_residuals(*leaves):
            values = list(rest)
            _put(values, moving, leaves)
            return _apply(*values, *tangents, linear=linear, out_avals=out_avals)

        moved = jax.jvp(through_residuals, [rest[i] for i in moving], [rest_dots[i] for i in moving])[1]
        total = [ad.add_tangents(a, b) for a, b in zip(total, moved, strict=True)]
    return outs, total


def _linear_transpose(dy: Any, *operands: Any, linear: Linear, out_avals: Any) -> list[Any]:
    rest, tangents = _operands(linear, operands)
    dy = [ad.instantiate_zeros(c) for c in dy]
    cotangents = transpose_compiled(linear, rest, dy)
    return [None] * len(rest) + [ad.Zero(t.aval) if c is None else c for c, t in zip(cotangents, tangents, strict=True)]


def _linear_batch(axis: Any, operands: Any, dims: Any, *, linear: Linear, out_avals: Any) -> Any:
    if all(dim is None for dim in dims):
        outs = linear_p.bind(*operands, linear=linear, out_avals=out_avals)
        return outs, [None] * len(outs)
    n = len(operands) - len(linear.wrt)
    fronted = [batching.bdim_at_front(t, d, axis.size) for t, d in zip(operands[n:], dims[n:], strict=True)]
    level = Level((*dims[:n], *[0] * len(fronted)), axis.size, axis.name, axis.spmd_name)
    linear = linear._replace(levels=(*linear.levels, level))
    out_avals = tuple(unmapped_aval(axis.size, 0, aval, axis.explicit_mesh_axis) for aval in out_avals)
    outs = linear_p.bind(*operands[:n], *fronted, linear=linear, out_avals=out_avals)
    return outs, [0] * len(outs)


linear_p.def_impl(_apply_compiled)
linear_p.def_abstract_eval(lambda *operands, linear, out_avals: list(out_avals))
ad.primitive_jvps[linear_p] = _linear_jvp
ad.primitive_transposes[linear_p] = _linear_transpose
batching.fancy_primitive_batchers[linear_p] = _linear_batch
mlir.register_lowering(linear_p, mlir.lower_fun(_apply, multiple_results=True))
