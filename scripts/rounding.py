"""How small a wrong factor `dlfn.compare` finds in float32 and bfloat16, and how often it accuses a rule that is right.

    python scripts/rounding.py            # prints the table
    python scripts/rounding.py --json     # the same as data
    python scripts/rounding.py --write    # puts it into docs/checking.md

Right rules are run at random shapes and inputs: ops of dlfn, and plain custom_vjp rules that compute in float32 or
round after every operation.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn import autodiff, ops
from dlfn.check import rounding

PAGE = Path(__file__).parents[1] / "docs" / "checking.md"
MARKS = "<!-- scripts/rounding.py -->", "<!-- end -->"


def rule(f, backward, inside):
    """A custom_vjp rule whose backward pass computes in a dtype of its own, or in that of its arguments (None)."""
    ruled = jax.custom_vjp(f)

    def bwd(args, dy):
        wide = [x.astype(inside or x.dtype) for x in (*args, dy)]
        return tuple(dx.astype(x.dtype) for dx, x in zip(backward(*wide), args))

    ruled.defvjp(lambda *args: (f(*args), args), bwd)
    return ruled


def softmax(x):
    return jax.nn.softmax(x, axis=-1)


def softmax_backward(x, dy):
    y = softmax(x)
    return (y * (dy - jnp.sum(dy * y, -1, keepdims=True)),)


def layer_norm(x, scale):
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5) * scale


def layer_norm_backward(x, scale, dy):
    centred = x - jnp.mean(x, -1, keepdims=True)
    inverse = lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
    normal, dn = centred * inverse, dy * scale
    means = jnp.mean(dn, -1, keepdims=True), jnp.mean(dn * normal, -1, keepdims=True)
    return inverse * (dn - means[0] - normal * means[1]), jnp.sum(dy * normal, 0)


def attention(q, k, v):
    return softmax(q @ k.T * q.shape[-1] ** -0.5) @ v


def attention_backward(q, k, v, dy):
    size = q.shape[-1] ** -0.5
    p = softmax(q @ k.T * size)
    (ds,) = softmax_backward(q @ k.T * size, dy @ v.T)
    return size * ds @ k, size * ds.T @ q, p.T @ dy


def gelu(x):
    return 0.5 * x * (1 + lax.erf(x / 2**0.5))


def gelu_backward(x, dy):
    return (dy * (0.5 * (1 + lax.erf(x / 2**0.5)) + x * jnp.exp(-x * x / 2) / (2 * np.pi) ** 0.5),)


def matmul(a, b):
    return a @ b


def matmul_backward(a, b, dy):
    return dy @ b.T, a.T @ dy


def logsumexp(x):
    return jax.nn.logsumexp(x, axis=-1)


def logsumexp_backward(x, dy):
    return (dy[..., None] * softmax(x),)


def dlfn_attention(q, k, v):
    return ops.attention(q[None, :, None], k[None, :, None], v[None, :, None])[0, :, 0]


def dlfn_layer_norm(x, scale):
    return ops.layer_norm(x, scale, None)


# The definition, its backward pass, dlfn's op, shapes from four random numbers below 300, and whether inputs may be far
# from 0.
RULES = {
    "matmul": (matmul, matmul_backward, ops.matmul, lambda a, b, c, _: [(b % 40 + 1, a), (a, c % 40 + 1)], False),
    "gelu": (gelu, gelu_backward, ops.gelu, lambda a, *_: [(a,)], False),
    "layer_norm": (
        layer_norm,
        layer_norm_backward,
        dlfn_layer_norm,
        lambda a, b, *_: [(b % 8 + 1, a + 2), (a + 2,)],
        True,
    ),
    "logsumexp": (logsumexp, logsumexp_backward, ops.logsumexp, lambda a, b, *_: [(b % 8 + 1, a + 1)], True),
    "softmax": (softmax, softmax_backward, ops.softmax, lambda a, b, *_: [(b % 8 + 1, a + 1)], True),
    "attention": (
        attention,
        attention_backward,
        dlfn_attention,
        lambda a, b, c, _: [(a % 40 + 1, c % 39 + 2), (b % 60 + 1, c % 39 + 2), (b % 60 + 1, c % 39 + 2)],
        False,
    ),
}
STYLES = {
    "float32": ("dlfn's op", "rounds every operation"),
    "bfloat16": ("dlfn's op", "float32 inside", "rounds every operation"),
}


def draws(shapes, far, dtype, seed, n):
    """Arguments of n runs, of sizes from 0.1 to 10, some of them far from 0."""
    rng = np.random.default_rng(seed)
    made = []
    for shape in shapes:
        size = 10.0 ** rng.uniform(-1, 1, (n,) + (1,) * len(shape))
        offset = rng.choice([0, 3, 30], size.shape, p=[0.7, 0.15, 0.15]) if far else 0
        made.append(jnp.asarray(size * (rng.normal(size=(n, *shape)) + offset), dtype))
    return made


def runs(name, dtype, style, seed, n):
    """For each run, of each argument's gradient: each test's figure and bound."""
    f, backward, op, shapes_of, far = RULES[name]
    shapes = shapes_of(*map(int, np.random.default_rng(seed).integers(1, 300, 4)))
    inside = "float32" if style == "float32 inside" else None
    hand = op if style == "dlfn's op" else rule(f, backward, inside)
    args = draws(shapes, far, dtype, seed, n)
    out = jax.eval_shape(f, *[x[0] for x in args])
    args += draws([out.shape], False, dtype, seed + 1, n)
    exact = autodiff(op) if style == "dlfn's op" else f

    def gradients(f, *args):
        return jax.vjp(f, *args[:-1])[1](args[-1])

    low = jax.jit(lambda *args: lax.map(lambda args: gradients(hand, *args), args))(*args)
    jaxpr = jax.make_jaxpr(functools.partial(gradients, exact))(*[x[0] for x in args])
    least = rounding.precision(args[0].dtype)
    with jax.enable_x64(True):
        salts = np.random.default_rng(seed).integers(2**63, size=(n, rounding.RUNS + 1), dtype=np.uint64)

        def measured(all):
            return rounding.measure(jaxpr, least, list(all[1:]), all[0])

        found = jax.jit(lambda *all: lax.map(measured, all))(salts, *[x.astype("float64") for x in args])
        exact, *measures = jax.tree.map(np.asarray, found)
    for run in range(n):
        scatter = rounding.Scatter([g[run] for g in exact], *[m[run] for m in measures], *least)
        ok, biases = True, []
        for i, g in enumerate(scatter.exact):
            if size := float(np.max(np.abs(g))):
                got = np.asarray(low[i][run], np.float64)
                entry, tests = (float(np.max(np.abs(got - g))), scatter.bound(i)), scatter.tests(i, got)
                ok = ok and all(error <= bound for error, bound in (entry, *tests.values()))
                biases.append(min(sum(entry) / size, sum(tests["as a whole"])))
        yield ok, biases


def table(shapes, n, only=None):
    """For each rule and dtype: how many runs, how many false alarms, and the bias that is found in half of the runs and
    in all, in rounding units and in percent."""
    for name in only or RULES:
        for dtype, styles in STYLES.items():
            results = [
                result for style in styles for seed in range(shapes) for result in runs(name, dtype, style, seed, n)
            ]
            biases = np.array([bias for _, each in results for bias in each]) / rounding.unit(dtype)
            yield {
                "rule": name,
                "dtype": dtype,
                "runs": len(results),
                "false_alarms": sum(not ok for ok, _ in results),
                "median_bias_in_u": float(np.median(biases)),
                "always_found_in_u": float(np.max(biases)),
                "always_found": float(np.max(biases)) * rounding.unit(dtype),
            }


def page_rows(rows):
    header = (
        "| rule | dtype | right rules | false alarms | found in half of the runs | found in all |\n" + "|---" * 6 + "|"
    )
    lines = [
        f"| `{r['rule']}` | {r['dtype']} | {r['runs']} | {r['false_alarms']} | {r['median_bias_in_u']:.3g} u "
        f"| {r['always_found_in_u']:.3g} u = {r['always_found']:.2g} |"
        for r in rows
    ]
    return "\n".join([header, *lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print data")
    parser.add_argument("--write", action="store_true", help="put the table into docs/checking.md")
    parser.add_argument("--shapes", type=int, default=2, help="random shapes of each rule")
    parser.add_argument("--runs", type=int, default=40, help="runs at each shape")
    parser.add_argument("rules", nargs="*", help=f"of {', '.join(RULES)}")
    options = parser.parse_args()
    rows = []
    for row in table(options.shapes, options.runs, options.rules):
        rows.append(row)
        if not options.json:
            print(page_rows([row]).splitlines()[-1], flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        PAGE.write_text(f"{before}{MARKS[0]}\n\n{page_rows(rows)}\n\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
