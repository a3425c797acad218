"""One function in several forms, each for the platforms on which it is the fastest.

What is fast on a CPU may be slow on a GPU. Which form a program gets is decided when it is lowered, for the platform
that it is lowered for, and not when it is traced, as the host that traces may be of another kind and a program may be
exported for several platforms at once. For this a :class:`ByPlatform` binds the primitive ``dlfn_form``, whose
*lowering* depends on the platform. All else is that of the default form: its types, how it is differentiated, how it is
batched. So the other forms need no derivative and no lowering elsewhere, and may be a call of a library for one kind of
device. What this asks of them: that outputs mean the same in all forms, derivatives included, as a value may come from
one form and its derivative from the default; and derivatives beyond those written by hand are as fast as the default's.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dlfn.core import _jax
from dlfn.core.primitives import Level, mapped, one_mesh, strong

__all__ = ["ByPlatform", "form_flat", "form_p"]

ACCELERATORS = ("cuda", "rocm", "tpu")


class ByPlatform:
    """A function of arrays whose compiled form depends on the platform.

    Args:
        default: ``default(*args, **static)``: arguments are arrays or pytrees of arrays, static settings are hashable
            and given by keyword; it returns a pytree of arrays. It is the form for CPUs, and differentiated and batched
            in place of every other form.
        accelerator: the form for GPUs and TPUs, with the same arguments and results of the same shapes and dtypes. It
            may return ``NotImplemented`` for arguments that are not for it: then the next form is taken, which here is
            the default.
        cuda: the form for NVIDIA's GPUs, before that for accelerators is tried.
        kernel: a call of a library for NVIDIA's GPUs, before those. XLA cannot partition it: programs over several
            devices have it inside ``shard_map`` alone. Nor does it get arrays of no fixed size.

    Make it once for each function, at the top level of a module: compiled programs are found again by it.

    >>> import jax, jax.numpy as jnp
    >>> double = ByPlatform(lambda x: x + x, accelerator=lambda x: 2 * x)
    >>> print(double(jnp.ones(2)))  # on a CPU
    [2. 2.]
    >>> "multiply" in jax.jit(double).trace(jnp.ones(2)).lower(lowering_platforms=("tpu",)).as_text()
    True
    """

    def __init__(
        self,
        default: Callable[..., Any],
        *,
        accelerator: Callable[..., Any] | None = None,
        cuda: Callable[..., Any] | None = None,
        kernel: Callable[..., Any] | None = None,
    ):
        self.default = default
        self.accelerator = accelerator
        self.cuda = cuda
        self.kernel = kernel

    @classmethod
    def with_plans(
        cls, on_cpus: Any, on_accelerators: Any, **forms: Any
    ) -> Callable[[Callable[..., Any]], "ByPlatform"]:
        """A decorator for a function with a setting ``plan``, which is the one or the other."""
        return lambda function: cls(
            functools.partial(function, plan=on_cpus),
            accelerator=functools.partial(function, plan=on_accelerators),
            **forms,
        )

    def forms(self, platform: str | None, whole: bool = True) -> list[Callable[..., Any]]:
        """The forms for a platform, the first choice first; None for one that has no forms of its own. ``whole``: for
        arrays of fixed sizes that no one partitions."""
        own = [self.kernel if whole else None, self.cuda] if platform == "cuda" else []
        general = [self.accelerator] if platform in ACCELERATORS else []
        return [*(form for form in (*own, *general) if form is not None), self.default]

    def __call__(self, *args: Any, **static: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        items = tuple(sorted(static.items()))
        call = Form(self, items, tree, repr(items), jnp.result_type(float) == jnp.float64)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        outs = form_p.bind(*leaves, call=call)
        return _outputs(call, *map(jax.typeof, leaves))[0].unflatten(outs)


class Form(NamedTuple):
    """Which function is applied to what; the fields are those of :class:`dlfn.core.primitives.Call`."""

    function: ByPlatform
    static: tuple[tuple[str, Any], ...]
    tree: Any
    exact: str
    wide: bool
    levels: tuple[Level, ...] = ()

    def __repr__(self) -> str:
        default = inspect.unwrap(self.function.default)
        default = getattr(default, "func", default)  # of a plan
        return f"<{getattr(default, '__name__', 'form')} by platform>"


class _Declined(Exception):
    """A form returned NotImplemented."""


def _evaluate(form: Callable[..., Any], call: Form, *leaves: jax.Array) -> Any:
    def plain(*leaves: jax.Array) -> Any:
        with one_mesh(map(jax.typeof, leaves)) as placed:
            result = form(*call.tree.unflatten(placed(leaves)), **dict(call.static))
        if result is NotImplemented:
            raise _Declined
        return jax.tree.map(strong, result)

    fn = plain
    for level in call.levels:
        fn = mapped(fn, level, level.in_axes, 0)
    return fn(*leaves)


def form_flat(*leaves: Any, call: Form) -> list[Any]:
    """The default form on flat arguments."""
    return jax.tree.leaves(_evaluate(call.function.default, call, *map(jnp.asarray, leaves)))


def _form_for(platform: str | None, whole: bool, *leaves: Any, call: Form) -> list[Any]:
    """The first form for the platform that takes these arguments."""
    leaves = tuple(map(jnp.asarray, leaves))
    tree, avals = _outputs(call, *map(jax.typeof, leaves))
    expected = tree, [(aval.shape, aval.dtype) for aval in avals]
    sizes = [n for leaf in leaves for n in leaf.shape] + [level.size for level in call.levels]
    whole = whole and all(isinstance(n, int) and n > 0 for n in sizes)
    for form in call.function.forms(platform, whole):
        try:
            outs, tree = jax.tree.flatten(_evaluate(form, call, *leaves))
        except _Declined:
            continue
        found = tree, [(out.shape, out.dtype) for out in outs]
        if found != expected:
            raise TypeError(f"the form of {call!r} for {platform} returns {found}, and the default form {expected}")
        return outs
    raise TypeError(f"no form of {call!r} takes its arguments; the default form must")


form_p = Primitive("dlfn_form")
form_p.multiple_results = True

_compiled = jax.jit(lambda *leaves, call: form_p.bind(*leaves, call=call), static_argnames="call")


@functools.lru_cache(maxsize=4096)
def _outputs(call: Form, *avals: Any) -> tuple[Any, list[Any]]:
    """Tree and types of the outputs."""
    traced = jax.jit(functools.partial(_evaluate, call.function.default, call)).trace(*avals)
    return jax.tree.structure(traced.out_info), list(traced.jaxpr.out_avals)


def _form_jvp(primals: Any, tangents: Any, *, call: Form) -> Any:
    outs = form_p.bind(*primals, call=call)
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad.Zero]

    def along(*some: Any) -> list[Any]:
        leaves = list(primals)
        for i, leaf in zip(moving, some, strict=True):
            leaves[i] = leaf
        return form_flat(*leaves, call=call)

    _, dots = jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])
    return outs, dots


def _form_batch(axis: Any, leaves: Any, dims: Any, *, call: Form) -> Any:
    if all(dim is None for dim in dims):  # JAX calls this rule even then
        outs = form_p.bind(*leaves, call=call)
        return outs, [None] * len(outs)
    call = call._replace(levels=(*call.levels, Level(tuple(dims), axis.size, axis.name, axis.spmd_name)))
    outs = form_p.bind(*leaves, call=call)
    return outs, [0] * len(outs)


form_p.def_impl(lambda *leaves, call: _compiled(*leaves, call=call))
form_p.def_abstract_eval(lambda *avals, call: _outputs(call, *avals)[1])
ad.primitive_jvps[form_p] = _form_jvp
batching.fancy_primitive_batchers[form_p] = _form_batch


def _lower(platform: str | None, ctx: Any, *leaves: Any, call: Form) -> Any:
    form = functools.partial(_form_for, platform, not _jax.partitioned(ctx))
    return mlir.lower_fun(form, multiple_results=True)(ctx, *leaves, call=call)


for _platform in (None, *ACCELERATORS):  # None: all others
    mlir.register_lowering(form_p, functools.partial(_lower, _platform), platform=_platform)
