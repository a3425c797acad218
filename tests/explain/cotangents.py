"""The cotangent of every value of a program by JAX's autodiff: a zero is added to each, and the program differentiated
in all of these zeros. Loops are unrolled, and of branches the one that is taken is run."""

import jax
import jax.numpy as jnp

from dlfn.core import jaxprs, references

CALLS = ("jit", "pjit", "closed_call", "remat2", "checkpoint", "custom_vmap_call")


def cotangents(f, args):
    """Of every result of every equation that is not entered, in the order in which they first run: its cotangent, or in
    loops those of all steps, stacked; None for what does not move with the floating-point arguments."""
    jaxpr, inputs, _, _ = jaxprs.trace(f, args, {})
    if references.mentioned(jaxpr):
        jaxpr, inputs, _ = references.as_values(jaxpr, inputs)
    values: list = []
    places: list = []

    def run(jaxpr, ins, zeros, place, at):
        jaxpr, consts = jaxprs.parts(jaxpr)
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *ins], strict=True))
        for eqn in jaxpr.eqns:
            env.update(
                zip(eqn.outvars, visit(eqn, [value_of(a, env) for a in eqn.invars], zeros, (*place, id(eqn)), at))
            )
        return [value_of(atom, env) for atom in jaxpr.outvars]

    def value_of(atom, env):
        return atom.val if hasattr(atom, "val") else env[atom]

    def visit(eqn, ins, zeros, place, at):
        name = eqn.primitive.name
        if name == "name":
            return ins
        if name in CALLS:
            return run(next(jaxprs.subjaxprs(eqn)), ins, zeros, place, at)
        if name == "cond":
            return run(eqn.params["branches"][int(ins[0])], ins[1:], zeros, (*place, int(ins[0])), at)
        if name == "scan":
            return loop(eqn, ins, zeros, place, at)
        outs = []
        for number, out in enumerate(jaxprs.bind(eqn, ins)):
            if jnp.issubdtype(out.dtype, jnp.inexact):
                if zeros is None:
                    values.append(out if isinstance(out, jax.core.Tracer) else None)  # of what does not move
                    places.append(((*place, number), at))
                else:
                    zero = next(zeros)
                    out = out if zero is None else out + zero
            outs.append(out)
        return outs

    def loop(eqn, ins, zeros, place, at):
        n_consts, n_carry = jaxprs.scan_counts(eqn)
        consts, carry, xs = ins[:n_consts], ins[n_consts : n_consts + n_carry], ins[n_consts + n_carry :]
        steps = range(eqn.params["length"])
        rows = []
        for t in reversed(steps) if eqn.params["reverse"] else steps:
            outs = run(eqn.params["jaxpr"], [*consts, *carry, *(x[t] for x in xs)], zeros, place, (*at, t))
            carry = outs[:n_carry]
            rows.append(outs[n_carry:])
        if eqn.params["reverse"]:
            rows.reverse()
        return [*carry, *(jnp.stack(column) for column in zip(*rows, strict=True))]

    floats = [i for i, x in enumerate(inputs) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]

    def first(*given):
        full = list(inputs)
        for i, x in zip(floats, given, strict=True):
            full[i] = x
        out = run(jaxpr, full, None, (), ())[0]
        values[:] = [None if value is None else jnp.zeros(value.shape, value.dtype) for value in values]
        return out

    at = [jnp.asarray(inputs[i]) for i in floats]
    jax.vjp(first, *at)
    shifted = lambda zeros: run(jaxpr, inputs, iter(zeros), (), ())[0]  # noqa: E731
    found = jax.grad(shifted)(values)
    by_place: dict = {}
    for (place, at), bar in zip(places, found, strict=True):
        by_place.setdefault(place, []).append((at, bar))
    steps = [sorted(bars, key=lambda step: step[0]) for bars in by_place.values()]
    return [_together([bar for _, bar in bars]) if bars[0][0] else bars[0][1] for bars in steps]


def _together(bars):
    shape = next((bar.shape for bar in bars if bar is not None), None)
    return None if shape is None else jnp.stack([jnp.zeros(shape) if bar is None else bar for bar in bars])
