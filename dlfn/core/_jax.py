"""JAX's less public interfaces, which may change with any of its versions, in one file.

No other file of dlfn touches the varying axes of a type, the context, source and bound parameters of an equation, or
the parts of a custom rule, which a test checks. Comments say where jax 0.10 and 0.12 differ.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend import source_info_util
from jax.extend.core.primitives import convert_element_type_p
from jax.interpreters import ad

__all__ = [
    "HIJAX",
    "absent_cotangent",
    "bound_parameters",
    "code_place",
    "concrete",
    "context",
    "cudnn_attention_backward",
    "cudnn_attention_forward",
    "custom_jvp_moving",
    "custom_jvp_rule",
    "custom_vjp_call",
    "custom_vjp_rules",
    "expand",
    "hijax_bodies",
    "name_stack",
    "of_jax",
    "operand_names",
    "own_lines",
    "partitioned",
    "parts",
    "primal",
    "rule_sources",
    "scan_counts",
    "sees_zeros",
    "source_line",
    "symbolic_zero",
    "takes_cudnn_attention",
    "varying_axes",
    "varying_over",
    "weak",
    "written_at",
    "zero_tangent",
    "zeros",
]


def varying_axes(x: Any) -> frozenset[Any]:
    """The mesh axes over which an array varies under ``shard_map``."""
    return jax.typeof(x).mat.varying


def varying_over(axes: Any, x: Any) -> Any:
    """An array as one that varies over these mesh axes of the ``shard_map`` around it."""
    missing = tuple(axis for axis in axes if axis not in varying_axes(x))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def zeros(kind: Any) -> jax.Array:
    """Zeros of a type, which vary over a mesh as it says; of random keys those with all bits 0."""
    if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
        impl = kind.dtype._impl
        return jax.random.wrap_key_data(jnp.zeros((*kind.shape, *impl.key_shape), jnp.uint32), impl=impl.name)
    return ad.zeros_like_aval(kind)


def weak(x: Any) -> Any:
    """An array with the weak type that Python numbers have, which gives way to the type of another array."""
    return convert_element_type_p.bind(x, new_dtype=x.dtype, weak_type=True, sharding=None)


def concrete(x: Any) -> Any:
    """The value of an array, also of one that is traced to be differentiated outside ``jit``; None where it is only
    known of what type it is."""
    return x.to_concrete_value() if isinstance(x, Tracer) else x


# Equations


def context(eqn: Any) -> Any:
    """A context manager with the settings under which an equation was traced, such as its mesh."""
    return eqn.ctx.manager


def bound_parameters(eqn: Any) -> dict[str, Any]:
    """An equation's parameters as its primitive's ``bind`` takes them."""
    return eqn.primitive.get_bind_params(eqn.params)


def name_stack(eqn: Any) -> str:
    """The names of the layers around an equation, ``model/block/linear``."""
    return str(eqn.source_info.name_stack)


def written_at(eqn: Any) -> Any:
    """A context manager: equations traced within get this equation's source line and its place among the layers."""
    info = eqn.source_info
    stack = source_info_util.current_name_stack() + info.name_stack
    return source_info_util.user_context(info.traceback, name_stack=stack)


class _NoTraceback:
    """Stands for the traceback of a source line, and is false: JAX then takes that of the Python stack."""

    def __bool__(self) -> bool:
        return False

    def as_python_traceback(self) -> None:
        return None


def own_lines() -> Any:
    """A context manager: equations traced within get the line of the code that runs, where JAX would give them that of
    the equation which it evaluates, as it does with those of rules."""
    nowhere: Any = _NoTraceback()
    return source_info_util.user_context(nowhere)


def parts(jaxpr: Any) -> tuple[Any, list[Any]]:
    """An open jaxpr and its constants, of a closed one or of an open one."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def scan_counts(eqn: Any) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are its carry."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, _ = eqn.params["ft_in"].unpack()
    return len(consts), len(carry)


def source_line(eqn: Any) -> str:
    """Where the user wrote it: ``model.py:12:8 (loss)``."""
    return source_info_util.summarize(eqn.source_info)


def source(eqn: Any) -> tuple[str, int, str] | None:
    """The file and the line where the user wrote it, and in which function."""
    found = re.fullmatch(r"(.*?):(\d+)(?::\d+)? \((.*)\)", source_line(eqn))
    return (found[1], int(found[2]), found[3]) if found else None


# Lowering


def partitioned(ctx: Any) -> bool:
    """Whether XLA is to partition the program that is being lowered over several devices, here: inside a ``shard_map``
    over all axes of the mesh it is not."""
    context = ctx.module_context.axis_context
    if hasattr(context, "mesh"):
        automatic = [size for name, size in context.mesh.shape.items() if name not in context.manual_axes]
        return any(size > 1 for size in automatic)
    return getattr(context, "num_devices", 1) > 1


# cuDNN's attention. jax.nn.dot_product_attention has no backward pass apart from its forward, which it would run once
# more, and rounds the logarithms that the backward pass needs to the half type. It asks for devices while programs are
# lowered, to be partitioned, which what is called here is not.


def _cudnn() -> Any:
    from jax._src.cudnn import fused_attention_stablehlo  # which importing dlfn need not depend on

    return fused_attention_stablehlo


def takes_cudnn_attention(q: Any, k: Any, v: Any) -> bool:
    """Whether there is cuDNN, and a GPU that it has kernels for arrays like these for."""
    cudnn = _cudnn()
    if cudnn.cuda_versions is None or not cudnn.check_compute_capability("8.0"):
        return False
    try:
        version, layout = cudnn.check_cudnn_version(), cudnn.AttentionLayout.BTNH.value
        cudnn.check_is_flash_attention(q, k, v, layout, version, False, True)
    except NotImplementedError:
        return False
    return True


def cudnn_attention_forward(q: Any, k: Any, v: Any, *, scale: float, causal: bool) -> Any:
    """The output, (batch, queries, heads, dim), and the logarithm of each row's sum, (batch, heads, queries)."""
    absent = [jnp.zeros(0, q.dtype)] * 7
    forward = _cudnn()._dot_product_attention_fwd_p
    return tuple(forward.bind(q, k, v, *absent, is_training=True, **_of(scale, causal)))


def cudnn_attention_backward(
    q: Any, k: Any, v: Any, y: Any, logarithms: Any, dy: Any, *, scale: float, causal: bool
) -> Any:
    """The cotangents of q, k and v."""
    absent = [jnp.zeros(0, q.dtype)] * 7
    backward = _cudnn()._dot_product_attention_bwd_p
    return tuple(backward.bind(q, k, v, *absent, logarithms, y, dy, **_of(scale, causal))[:3])


def _of(scale: float, causal: bool) -> dict[str, Any]:
    cudnn = _cudnn()
    own_scores = {} if jax.__version_info__ < (0, 12) else {"score_mod_name": None, "score_mod_jaxpr": None}
    return dict(
        scale=scale, seed=0, dropout_rate=0.0, variadic_args=(False, False), sliding_window_length=None,
        mask_type=cudnn.MaskType.CAUSAL if causal else cudnn.MaskType.NO_MASK,
        layout=cudnn.AttentionLayout.BTNH.value, **own_scores,
    )  # fmt: skip


# Custom rules. What does not move has a symbolic zero where rules ask for that, and else one of the type of tangents.


def symbolic_zero(kind: Any) -> SymbolicZero:
    """What rules with ``symbolic_zeros`` see as the tangent or cotangent of a value of some type that has none."""
    return SymbolicZero(kind.to_tangent_aval())


def zero_tangent(kind: Any) -> Any:
    """The zero that rules without ``symbolic_zeros`` see; that of an integer is float0."""
    return ad.instantiate_zeros(absent_cotangent(kind))


def absent_cotangent(kind: Any) -> Any:
    """What the function that ``jax.vjp`` returns takes for an output of some type that has no cotangent."""
    return ad.Zero(kind.to_tangent_aval())


HIJAX = "call_hi_primitive"  # the primitive of all equations that jax.experimental.hijax's primitives make


def hijax_bodies(eqn: Any) -> list[Any]:
    """The jaxprs that a primitive of ``jax.experimental.hijax`` keeps of what it computes, as ``custom_root`` does from
    jax 0.12 on."""
    return [value for value in getattr(eqn.params["_prim"], "params", {}).values() if hasattr(value, "eqns")]


def expand(eqn: Any, *values: Any) -> list[Any]:
    """What a primitive of ``jax.experimental.hijax`` says that it computes, on an equation's flat values."""
    primitive = eqn.params["_prim"]
    return jax.tree.leaves(primitive.expand(*jax.tree.unflatten(primitive.in_tree, values)))


def rule_sources(eqn: Any) -> tuple[str, str, str]:
    """Of an equation with a rule of JAX's kinds: its function's name, and where that and its derivative are defined, as
    ``/path/file.py:12``; empty where it is not known."""
    params = eqn.params
    if eqn.primitive.name == HIJAX:
        return _hijax_sources(params["_prim"])
    function = parts(params["call_jaxpr"])[0].debug_info
    if eqn.primitive.name == "custom_jvp_call":
        return function.func_name, _place(function), _place(params["jvp_jaxpr_fun"].debug_info)
    if given := _custom_gradient(eqn):  # value and derivative are written in one function
        place = code_place(getattr(given, "__code__", None))
        return getattr(given, "__name__", function.func_name), place, place
    return function.func_name, _place(function), _place(params["bwd"].debug_info)


def _custom_gradient(eqn: Any) -> Any:
    """The function that ``jax.custom_gradient`` was given to make that of an equation; None if it did not make it. What
    it makes is a ``custom_vjp`` function of JAX's own, whose forward rule closes over the other."""
    forward = _closed_over(_closed_over(getattr(eqn.params["fwd_jaxpr_thunk"], "f", None), "fn"), "fwd")
    return _given_to_custom_gradient(getattr(forward, "f", None))


def _given_to_custom_gradient(function: Any) -> Any:
    code = getattr(function, "__code__", None)
    made = code and of_jax(code_place(code)) and code.co_qualname.startswith("custom_gradient.<locals>.")
    return _closed_over(function, "fun") if made else None


def _closed_over(function: Any, name: str) -> Any:
    """What a function has of some name from the functions around it; None where there is no such thing."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    return function.__closure__[names.index(name)].cell_contents if name in names else None


def primal(function: Any) -> Any:
    """The Python function whose derivative a function of ``jax.custom_vjp``, ``custom_jvp`` or ``custom_gradient``
    has."""
    return _given_to_custom_gradient(function.fun) or function.fun


def _place(debug_info: Any) -> str:
    place = str(getattr(debug_info, "func_src_info", "") or "").rpartition(" at ")[2]  # of "name at file:line"
    # A wrapper of JAX's, as custom_gradient and defjvps make them, does not say whose function it is.
    return "" if f"{os.sep}custom_derivatives.py:" in place else place


def _hijax_sources(primitive: Any) -> tuple[str, str, str]:
    if traced := getattr(primitive, "traced", None):  # a custom_vjp function in the newer way
        code = getattr(primitive.bwd, "__code__", None)
        return traced.fun_name, _place(parts(traced.jaxpr)[0].debug_info), code_place(code)
    methods = (getattr(getattr(type(primitive), name, None), "__code__", None) for name in _BACKWARDS)
    return (
        type(primitive).__name__,
        code_place(type(primitive).expand.__code__),
        next((code_place(code) for code in methods if code and not of_jax(code_place(code))), ""),
    )


_BACKWARDS = ("vjp_bwd_retval", "vjp_bwd", "jvp", "lin")


def code_place(code: Any) -> str:
    """Where a code object is defined, ``/path/file.py:12``."""
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def operand_names(eqn: Any) -> list[str] | None:
    """What the operands of a custom rule's equation are called, where JAX knows it."""
    if "call_jaxpr" not in eqn.params:
        return None
    names = parts(eqn.params["call_jaxpr"])[0].debug_info.arg_names
    if names is None or len(names) + eqn.params["num_consts"] != len(eqn.invars):
        return None
    return [*[f"constant {i}" for i in range(eqn.params["num_consts"])], *(name or "argument" for name in names)]


def of_jax(place: str) -> bool:
    """Whether a place is in JAX's own files."""
    return place.startswith(os.path.dirname(jax.__file__) + os.sep)


def custom_vjp_call(eqn: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """How a ``custom_vjp`` function was called: the tree of its differentiated arguments, and the values of the others.
    None where JAX no longer knows, as under ``vmap``."""
    tree, static = None, ()
    for _, given in getattr(eqn.params["bwd"], "transforms", ()):
        for value in given:
            if isinstance(value, jax.tree_util.PyTreeDef):
                tree = value
            elif isinstance(value, tuple) and value and all(type(v).__name__ in _STATIC for v in value):
                static = tuple(v.val for v in value)
    return None if tree is None else (tree, static)


_STATIC = ("Hashable", "Unhashable")


def sees_zeros(eqn: Any) -> bool:
    """Whether a rule is told which of its arguments and outputs matter, and may then do something else."""
    return bool(eqn.params.get("symbolic_zeros")) or eqn.primitive.name == HIJAX


def custom_jvp_rule(eqn: Any) -> Callable[..., Sequence[Any]]:
    """``rule(*values, *tangents) -> (*outputs, *tangents of the outputs)`` of a ``custom_jvp`` function's equation."""
    return bound_parameters(eqn)["subfuns"][1].call_wrapped


def custom_jvp_moving(eqn: Any, needs: Sequence[bool]) -> Sequence[bool]:
    """Which outputs of a ``custom_jvp`` function's equation have a tangent where the values that ``needs`` marks do.
    Rules without ``symbolic_zeros`` give all of them one."""
    if not eqn.params["symbolic_zeros"]:
        return [True] * len(eqn.outvars)
    still = [not needed for needed in needs[eqn.params["num_consts"] :]]
    return [not zero for zero in eqn.params["jvp_jaxpr_fun"].call_wrapped(*still)[2]]


def custom_vjp_rules(eqn: Any) -> tuple[Callable[..., Any], Callable[..., list[Any]]]:
    """``(forward, backward)`` of a ``custom_vjp`` function's equation.

    ``forward(values, needs)`` gives ``(outputs, residuals)``, and ``backward(residuals, cotangents)`` a cotangent for
    each value; None stands for zero in both lists of cotangents.
    """
    params = bound_parameters(eqn)
    _, forward, backward = params["subfuns"]

    def run_forward(values: Sequence[Any], needs: Sequence[bool]) -> tuple[list[Any], list[Any]]:
        outs = forward.call_wrapped(*[x for value, needed in zip(values, needs, strict=True) for x in (value, needed)])
        _, rest_tree, forwarded = params["out_trees"]()
        saved = iter(outs[: rest_tree.num_leaves - sum(i is not None for i in forwarded)])
        # A residual that is an argument is not among what is returned: its position among the arguments is.
        rest = [next(saved) if i is None else values[i] for i in forwarded]
        return list(outs[len(outs) - len(eqn.outvars) :]), rest

    # From jax 0.12 on, rules that are not to see symbolic zeros are given them too, and replace them themselves.
    symbolic = eqn.params["symbolic_zeros"] or jax.__version_info__ >= (0, 12)

    def run_backward(rest: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        absent = symbolic_zero if symbolic else zero_tangent
        given = [absent(v.aval) if bar is None else bar for bar, v in zip(cotangents, eqn.outvars, strict=True)]
        found = backward.call_wrapped(*rest, *given)
        if len(found) == 2 and isinstance(found[0], list | tuple):
            found = found[0]  # from jax 0.12 on, logs come beside them
        return [None if isinstance(bar, ad.Zero) else bar for bar in found]

    return run_forward, run_backward
