"""``dlfn.explain``: a function's forward and backward pass, step by step."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from dlfn.check.opinions import reason
from dlfn.core import InputError, autodiff, jaxprs
from dlfn.core.walk import Walk
from dlfn.explain.building import Argument, built
from dlfn.explain.explanation import Agreement, Explanation
from dlfn.explain.gradients import gradient, parameter, wide, worst
from dlfn.explain.tape import Tape

__all__ = ["explain"]


def explain(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    *,
    has_aux: bool = False,
    cotangent: Any = None,
    keep: bool = False,
    title: str | None = None,
) -> Callable[..., Explanation]:
    r"""Every step of a function and of its backward pass: equation, rule, value, δ, and where δ comes from.

    The function may consist of ops, layers, plain ``jax.numpy``, or other people's functions with rules of their own.
    It is run once, on the arguments: loops step by step, and of branches the one that is taken. An op, or a function
    with its own rule, is one step; ``jit`` and ``jax.checkpoint`` are entered. Names come from layers, from
    ``jax.ad_checkpoint.checkpoint_name``, and from the variables in the source.

    Args:
        f: a function of arrays, or pytrees of them, that returns a floating-point scalar.
        argnums: which positional arguments to differentiate in; by default whatever is floating point.
        has_aux: ``f`` returns ``(value, aux)``.
        cotangent: of a value that is no scalar: an array, or a tree of them, like the value.
        keep: whether steps hold all numbers of large arrays too.
        title: what to call it.

    Returns:
        A function of the arguments of ``f``, which returns an :class:`~dlfn.explain.Explanation`.

    Raises:
        InputError: where ``f`` returns no scalar, nothing is differentiated, or an equation has no rule.

    >>> import jax.numpy as jnp, dlfn
    >>> def loss(w, b, x, y):
    ...     h = w * x + b
    ...     yhat = h**2
    ...     return (yhat - y) ** 2
    >>> found = dlfn.explain(loss)(2.0, 1.0, 1.0, 4.0)
    >>> found.value, found.ok
    (25.0, True)
    >>> print(found.steps[-1].rule)
    \bar x = 2 \, \bar y \, x
    """

    @functools.wraps(f)
    def explained(*args: Any, **kwargs: Any) -> Explanation:
        called = title or getattr(f, "__name__", type(f).__name__)
        return _explain(f, args, kwargs, argnums, has_aux, cotangent, keep, called)

    return explained


def _explain(
    f: Any, args: Any, kwargs: Any, argnums: Any, has_aux: bool, cotangent: Any, keep: bool, title: str
) -> Explanation:
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))):
        raise InputError("explain: an argument is traced; call it outside of jit, grad and vmap, on arrays")

    def main(*args: Any, **kwargs: Any) -> Any:
        out = f(*args, **kwargs)
        if not has_aux:
            return out
        if not (isinstance(out, tuple) and len(out) == 2):
            raise InputError(f"explain: with has_aux=True the function must return (value, aux), got {type(out)}")
        return out[0]

    jaxpr, inputs, positions, out_tree = jaxprs.trace(main, args, kwargs)
    Walk(None, True).refuse_hidden_state(jaxpr)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path((args, kwargs))[0]]
    chosen = _chosen([paths[i] for i in positions], inputs, argnums, len(args))
    seeds = _seeds(out_tree, [var.aval for var in jaxpr.jaxpr.outvars], cotangent)
    tape = Tape()
    slots, outs = tape.program(jaxpr, inputs, [i in chosen for i in range(len(inputs))])
    for slot, seed in zip(outs, seeds, strict=True):
        if slot.moving and seed is not None:
            slot.add(None, seed)
    tape.back()
    value = float(sum(jnp.sum(o.value * seed) for o, seed in zip(outs, seeds, strict=True) if seed is not None))

    program = lambda *values: jaxprs.run(jaxpr, values)  # noqa: E731
    hand = gradient(program, inputs, chosen, seeds)
    walked = [jnp.zeros_like(slots[i].value) if slots[i].bar is None else slots[i].bar for i in chosen]
    notes = []
    try:
        plain = gradient(autodiff(program), inputs, chosen, seeds)
    except Exception as error:
        plain = [None] * len(chosen)
        notes.append(f"there is no gradient by autodiff of the definitions: {reason(error)}")
    names = [_name(f, paths[i]) for i in positions]
    scale = max([float(jnp.linalg.norm(jnp.ravel(g).astype(wide(g)))) for g in hand], default=0.0)
    parameters = {
        i: parameter(names[i], inputs[i], by_rule, walk, by_definition, scale, keep)
        for i, by_rule, walk, by_definition in zip(chosen, hand, walked, plain, strict=True)
    }
    arguments = [
        *(Argument(n, "parameter" if i in parameters else "argument", parameters.get(i)) for i, n in enumerate(names)),
        *(Argument("constant", "constant", None) for _ in slots[len(names) :]),
    ]
    agreement = Agreement(
        worst([p.backprop for p in parameters.values()]),
        worst([p.autodiff for p in parameters.values()]),
        all(p.ok for p in parameters.values()),
        tuple(notes),
    )
    return Explanation(title, value, agreement, *built(tape, arguments, keep))


def _chosen(paths: Sequence[Any], inputs: Sequence[Any], argnums: Any, n_args: int) -> list[int]:
    """The inputs that are differentiated."""
    floating = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in inputs]
    if argnums is None:
        chosen = [i for i, real in enumerate(floating) if real]
    else:
        wanted = [i + n_args if i < 0 else i for i in ((argnums,) if isinstance(argnums, int) else argnums)]
        if bad := [i for i in wanted if not 0 <= i < n_args]:
            raise InputError(f"explain: argnums has {bad[0]}, and there are {n_args} positional arguments")
        chosen = [i for i, p in enumerate(paths) if p[0].idx == 0 and p[1].idx in wanted and floating[i]]
    if not chosen:
        raise InputError("explain: no argument is a floating-point array, so there is nothing to differentiate in")
    return chosen


def _seeds(tree: Any, avals: Sequence[Any], cotangent: Any) -> list[Any]:
    """The cotangents of the outputs; None for those that are not real numbers."""
    real = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals]
    if cotangent is None:
        if len(avals) == 1 and avals[0].shape == () and jnp.issubdtype(avals[0].dtype, jnp.floating):
            return [jnp.ones((), avals[0].dtype)]
        got = ", ".join(f"{aval.dtype}{list(aval.shape)}" for aval in avals) or "nothing"
        raise InputError(
            f"explain: the function must return one floating-point scalar, got {got}; reduce it (say jnp.sum or "
            "jnp.mean), pass has_aux=True if it returns (loss, aux), or pass cotangent=, of the value's shape"
        )
    leaves, given = jax.tree.flatten(cotangent)
    if given != tree:
        raise InputError(f"explain: cotangent has the structure {given}, and must have that of the value, {tree}")
    for leaf, aval in zip(leaves, avals, strict=True):
        if jnp.shape(leaf) != aval.shape:
            raise InputError(
                f"explain: cotangent has the shape {jnp.shape(leaf)}, and must have that of the value, {aval.shape}"
            )
    return [jnp.asarray(leaf, aval.dtype) if r else None for leaf, aval, r in zip(leaves, avals, real, strict=True)]


def _name(f: Any, path: Any) -> str:
    """``params/hidden/w``, by the function's parameters and the keys below."""
    by_position, number, *below = path
    if by_position.idx == 0:
        try:
            kinds = [p for p in inspect.signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
            first = kinds[number.idx].name
        except (TypeError, ValueError, IndexError):
            first = f"argument {number.idx}"
    else:
        first = str(number.key)
    return "/".join([first, *(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in below)])
