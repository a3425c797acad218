#!/usr/bin/env python
"""Times dlfn on an accelerator beside what else there is in JAX: milliseconds of forward and backward, of one program.

    python scripts/accelerators.py --json benchmarks/NAME.json

It takes three minutes on an H100. Most time goes into compilation; no row begins after --seconds. A row that fails is
reported and the others go on. --tiny tries every row on a CPU, at sizes that mean nothing.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # so that what a row needs is known

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from dlfn import nn, ops
from dlfn.bench import environment

HALF, SINGLE = jnp.bfloat16, jnp.float32
RNG = np.random.default_rng(0)


def normal(dtype, *shape, scale=1.0):
    return jnp.asarray(scale * RNG.standard_normal(shape, np.float32), dtype)


def integers(below, *shape):
    return jnp.asarray(RNG.integers(0, below, shape), jnp.int32)


def name_of(dtype):
    return jnp.dtype(dtype).name


# Each group yields (name, function, arguments, the arguments to differentiate, floating-point operations or None).


def attention(tiny):
    for shape in ((1, 64, 2, 16),) if tiny else ((4, 4096, 16, 128), (16, 1024, 12, 64)):
        b, t, h, d = shape
        args, count = [normal(HALF, *shape) for _ in range(3)], 7 * b * h * t * t * d
        peer = functools.partial(jax.nn.dot_product_attention, is_causal=True)
        yield f"{shape} dlfn", functools.partial(ops.attention, causal=True), args, (0, 1, 2), count
        yield f"{shape} jax.nn cudnn", functools.partial(peer, implementation="cudnn"), args, (0, 1, 2), count
        yield f"{shape} jax.nn xla", functools.partial(peer, implementation="xla"), args, (0, 1, 2), count


def cross_entropy(tiny):
    n, i, k = (64, 16, 128) if tiny else (8192, 4096, 131072)
    args, count = (normal(HALF, n, i), normal(HALF, k, i, scale=0.02), integers(k, n)), 6 * n * i * k

    def whole(x, w, labels):
        z = lax.dot_general(x, w, (((1,), (1,)), ((), ())), preferred_element_type=SINGLE)
        return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()

    for chunk in (None,) if tiny else (None, 1024, 4096):
        fused = functools.partial(ops.linear_cross_entropy, classes_first=True, chunk=chunk)
        yield f"{(n, i, k)} dlfn, chunk {chunk}", fused, args, (0, 1), count
    yield f"{(n, i, k)} optax, all logits", whole, args, (0, 1), count


def gpt(tiny):
    b, t, depth, width, heads, k = (2, 16, 2, 32, 2, 64) if tiny else (16, 1024, 12, 768, 12, 50304)
    tokens = integers(k, b, t + 1)
    count = 6 * b * t * (depth * 12 * width**2 + k * width) + 7 * depth * b * t * t * width
    for setting in ("", "checkpoint", "unroll"):
        body = nn.Serial(
            embedding=nn.Embedding(k, width),
            positions=nn.LearnedPositions(t),
            blocks=nn.Repeat(nn.TransformerBlock(heads, causal=True), depth, **dict.fromkeys(setting.split(), True)),
            norm=nn.LayerNorm(),
        )
        params, state = jax.jit(body.init)(jax.random.key(0), tokens[:, :-1])

        def loss(params, tokens, body=body, state=state):
            params = jax.tree.map(lambda p: p.astype(HALF), params)
            y, _ = body.apply(params, state, tokens[:, :-1])
            return ops.linear_cross_entropy(y, params["embedding"]["table"], tokens[:, 1:], classes_first=True)

        yield f"{b}×{t}, {depth} layers dlfn{setting and f', {setting}'}", loss, (params, tokens), (0,), count


def recurrences(tiny):
    b, t, i, h = (2, 8, 16, 16) if tiny else (64, 256, 512, 512)

    def scanned(x, w_x, w_h, bias):
        def step(carry, a):
            h, c = carry
            i, f, g, o = jnp.split(a + h @ w_h, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[0], w_h.shape[0]), x.dtype)
        return jnp.swapaxes(lax.scan(step, (zero, zero), jnp.swapaxes(x @ w_x + bias, 0, 1))[1], 0, 1)

    def lstm(x, *weights):
        return ops.lstm(x, None, None, *weights)[0]

    def gru(x, *weights):
        return ops.gru(x, None, *weights)[0]

    for dtype in (HALF, SINGLE):
        for name, gates, f in (("lstm dlfn", 4, lstm), ("lstm, lax.scan", 4, scanned), ("gru dlfn", 3, gru)):
            weights = [normal(dtype, i, gates * h, scale=0.05), normal(dtype, h, gates * h, scale=0.05)]
            args = normal(dtype, b, t, i), *weights, normal(dtype, gates * h)
            yield f"{name} {name_of(dtype)}", f, args, (0, 1, 2, 3), None


def convolutions(tiny):
    def plain(x, k, groups):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=groups)

    for shape in ((2, 8, 8, 8),) if tiny else ((128, 56, 56, 64), (128, 14, 14, 256)):
        c = shape[-1]
        for name, groups in (("conv 3×3", 1), ("depthwise 3×3", c)):
            args = normal(HALF, *shape), normal(HALF, 3, 3, c // groups, c, scale=0.1)
            yield f"{name} {shape} dlfn", functools.partial(ops.conv, padding=1, groups=groups), args, (0, 1), None
            yield f"{name} {shape} lax", functools.partial(plain, groups=groups), args, (0, 1), None
    b, size, wide, narrow = (2, 8, 16, 8) if tiny else (128, 56, 256, 64)
    unit = lambda c, n: (nn.Conv(c, (n, n), padding="SAME", bias=False), nn.BatchNorm())  # noqa: E731
    body = nn.Serial(*unit(narrow, 1), nn.ReLU(), *unit(narrow, 3), nn.ReLU(), *unit(wide, 1))
    model, x = nn.Serial(nn.Residual(body), nn.ReLU()), normal(HALF, b, size, size, wide)
    params, state = model.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p.astype(HALF), params)
    yield "bottleneck dlfn", lambda p, x: model.apply(p, state, x, train=True)[0], (params, x), (0, 1), None


def elementwise(tiny):
    """Ops that a GPU should take through memory once or twice, beside jax.nn's or the definition's autodiff."""
    n, m = (16, 32) if tiny else (8192, 4096)
    exact_gelu = functools.partial(jax.nn.gelu, approximate=False)
    rivals = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "gelu": exact_gelu, "silu": jax.nn.silu,
              "softplus": jax.nn.softplus, "softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax}  # fmt: skip
    for dtype in (HALF, SINGLE):
        kind, x, row = name_of(dtype), normal(dtype, n, m), normal(dtype, m)
        for name, rival in rivals.items():
            yield f"{name} {kind} dlfn", getattr(ops, name), (x,), (0,), None
            yield f"{name} {kind} jax.nn", rival, (x,), (0,), None
        labels = integers(m, n)
        for name, args in (
            ("layer_norm", (x, row, row)),
            ("rms_norm", (x, row)),
            ("softmax_cross_entropy", (x, labels)),
        ):
            op, wrt = getattr(ops, name), tuple(i for i, a in enumerate(args) if a.dtype != jnp.int32)
            yield f"{name} {kind} dlfn", op, args, wrt, None
            yield f"{name} {kind} autodiff", op.definition, args, wrt, None
        image = normal(dtype, *((2, 8, 8, 16) if tiny else (128, 56, 56, 64)))
        pool = functools.partial(ops.max_pool, window=2, strides=2)
        yield f"max_pool {kind} dlfn", pool, (image,), (0,), None
        yield (
            f"max_pool {kind} lax",
            lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
            (image,), (0,), None,
        )  # fmt: skip
        ids, table = integers(50304, 16384), normal(dtype, 50304, 16 if tiny else 768)
        yield f"embedding {kind} dlfn", ops.embedding, (ids, table), (1,), None
        yield f"embedding {kind} indexing", lambda ids, table: table[ids], (ids, table), (1,), None


GROUPS = (attention, cross_entropy, gpt, recurrences, convolutions, elementwise)


def measured(f, args, wrt, count, seconds):
    def step(dy, *args):
        def of(*moving):
            given = list(args)
            for i, value in zip(wrt, moving, strict=True):
                given[i] = value
            return f(*given)

        y, pullback = jax.vjp(of, *[args[i] for i in wrt])
        return y, pullback(dy)

    dy = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), jax.eval_shape(f, *args))
    begin = time.perf_counter()
    program = jax.jit(step).lower(dy, *args).compile()
    compiled = time.perf_counter() - begin
    milliseconds = timed(lambda: program(dy, *args), seconds)
    row = {
        "ms": round(milliseconds, 4),
        "temporary_mb": round(program.memory_analysis().temp_size_in_bytes / 1e6, 1),
        "compile_s": round(compiled, 1),
    }
    return row | ({"tflops": round(count / milliseconds / 1e9, 1)} if count else {})


def timed(call, seconds):
    """The median over rounds of several calls, which are in flight together."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    calls = max(1, int(0.01 / (time.perf_counter() - begin)))
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < 5 or (time.perf_counter() < end and len(rounds) < 100):
        begin = time.perf_counter()
        results = [call() for _ in range(calls)]
        jax.block_until_ready(results[-1])
        rounds.append((time.perf_counter() - begin) / calls * 1e3)
        del results
    return statistics.median(rounds)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="the file to write")
    names = [group.__name__ for group in GROUPS]
    parser.add_argument("--groups", nargs="+", choices=names, default=names, help="which rows (default: all)")
    parser.add_argument("--seconds", type=float, default=300, help="no row begins after so many (default: 300)")
    parser.add_argument("--tiny", action="store_true", help="a dry run at small sizes")
    options = parser.parse_args(argv)
    begin, rows, errors = time.perf_counter(), {}, {}
    for group in [group for group in GROUPS if group.__name__ in options.groups]:
        for name, *row in group(options.tiny):
            name = f"{group.__name__}: {name}"
            if time.perf_counter() - begin > options.seconds:
                errors[name] = "not run: out of time"
                continue
            try:
                rows[name] = measured(*row, seconds=0.01 if options.tiny else 0.3)
                print(f"{name:60} {rows[name]}", flush=True)
            except Exception as error:
                errors[name] = f"{type(error).__name__}: {error}".split("\n")[0][:300]
                print(f"{name:60} {errors[name]}", flush=True)
    if options.json:
        text = json.dumps({**environment(), "tiny": options.tiny, "rows": rows, "errors": errors}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
