"""Cases of the norms: oracles from PyTorch, hard rows, benchmarks beside Flax and Equinox."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register, uniform

# What plain JAX a good engineer would write: the two-pass formula, which loses two digits on rows far from 0. Flax's
# default is the one-pass formula, which loses all there, so both of its forms are measured.


def _plain(over, x, scale, bias):
    mean = jnp.mean(x, over, keepdims=True)
    return (x - mean) * (lax.rsqrt(jnp.var(x, over, keepdims=True) + 1e-5) * scale) + bias


def _plain_layer(x, scale, bias):
    mean = jnp.mean(x, -1, keepdims=True)
    return (x - mean) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5) * scale + bias


def _plain_instance(x, scale, bias):
    return _plain((-3, -2), x, scale, bias)


def _plain_batch(x, scale, bias):
    return _plain(tuple(range(x.ndim - 1)), x, scale, bias)


def _plain_rms(x, scale):
    return x * (lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)) * scale


def _plain_group(x, scale, bias, *, groups):
    parts = x.reshape(*x.shape[:-1], groups, -1)
    one = jnp.ones((), x.dtype)
    return _plain((-4, -3, -1), parts, one, 0 * one).reshape(x.shape) * scale + bias


def _plain_inference(x, mean, var, scale, bias):
    return (x - mean) * (lax.rsqrt(var + 1e-5) * scale) + bias


def _flax(name, **settings):
    """Flax's layer as it comes, and with the two-pass formula."""

    def maker(**form):
        def make():
            from flax import linen  # pyright: ignore[reportMissingImports]

            layer = getattr(linen, name)(**settings, **form)

            def call(x, *params):
                variables: dict[str, Any] = {"params": dict(zip(("scale", "bias"), params))}
                if name == "BatchNorm":
                    variables["batch_stats"] = {"mean": jnp.zeros_like(params[0]), "var": jnp.ones_like(params[0])}
                    return layer.apply(variables, x, mutable=["batch_stats"])[0]
                return layer.apply(variables, x)

            return call

        return make

    return {"flax": maker(), "flax, two-pass": maker(use_fast_variance=False)}


def _equinox_layer(name):
    def make():
        import equinox  # pyright: ignore[reportMissingImports]

        def call(x, *params):
            layer = getattr(equinox.nn, name)(x.shape[-1], use_bias=len(params) > 1)
            layer = equinox.tree_at(lambda m: (m.weight, m.bias)[: len(params)], layer, params)
            return jax.vmap(layer)(x)

        return call

    return make


def _equinox_group():
    import equinox  # pyright: ignore[reportMissingImports]

    def call(x, scale, bias):
        layer = equinox.nn.GroupNorm(8, x.shape[-1])
        layer = equinox.tree_at(lambda m: (m.weight, m.bias), layer, (scale, bias))
        return jnp.moveaxis(jax.vmap(layer)(jnp.moveaxis(x, -1, 1)), 1, -1)

    return call


def _uniform(*shape):
    """Not normal, as the cotangents are, and from the same seed: x as its own cotangent has a gradient of 0."""
    return uniform(-2.0, 2.0, *shape)


def _rows(x, *_):
    return max(x.shape[-1], x.size // x.shape[-1])


def _size(x, *_):
    return x.size


def _layer_oracle(torch, x, scale=None, bias=None, *, axes=1):
    return torch.nn.functional.layer_norm(x, x.shape[-axes:], scale, bias)


def _rms_oracle(torch, x, scale, eps):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], scale, eps)


def _in_torch_layout(function, spatial):
    """``function`` of (N, C, *space), called with (..., *space, C)."""

    def call(x):
        flat = x.reshape(-1, *x.shape[x.ndim - 1 - spatial :])
        return function(flat.movedim(-1, 1)).movedim(1, -1).reshape(x.shape)

    return call


def _instance_oracle(torch, x, scale=None, bias=None, *, spatial=2):
    norm = torch.nn.functional.instance_norm
    return _in_torch_layout(lambda x: norm(x, weight=scale, bias=bias), spatial)(x)


def _group_oracle(torch, x, scale=None, bias=None, *, groups, spatial=2):
    return _in_torch_layout(lambda x: torch.nn.functional.group_norm(x, groups, scale, bias), spatial)(x)


def _batch_oracle(torch, x, scale=None, bias=None, *, eps, stats_dtype=None):
    rows = x.reshape(-1, x.shape[-1])
    y = torch.nn.functional.batch_norm(rows, None, None, scale, bias, training=True, eps=eps)
    return y.reshape(x.shape), rows.mean(0), rows.var(0, unbiased=False)


def _inference_oracle(torch, x, mean, var, scale=None, bias=None):
    # PyTorch's own gives no gradients of the statistics.
    y = (x - mean) / torch.sqrt(var + 1e-5)
    return y if scale is None else y * scale + bias


# Constant rows of cotangent (1, 2, 3), and a row far from 0, calculated in float64.
_CONSTANT = [[-316.22776602, 0.0, 316.22776602]]
_FAR = [[3000.0, 3001.0, 3003.0, 3002.0]]

register(
    Entry(
        ops.layer_norm,
        ("norm.layer",),
        (
            Case(lambda lead: (_uniform(*lead, 5), normal(5), normal(5)), oracle=_layer_oracle, terms=_rows),
            Case(lambda lead: (_uniform(*lead, 5), absent, absent), name="no parameters", oracle=_layer_oracle,
                 terms=_rows),
            Case(lambda lead: (_uniform(*lead, 3, 5), normal(3, 5), normal(3, 5)), {"axes": 2}, "two axes",
                 _layer_oracle, _size),
            Case(lambda lead: (_uniform(*lead, 256), normal(256), normal(256)), name="long rows",
                 oracle=_layer_oracle, terms=_rows),
        ),
        (
            Trap("a constant row", ([[0.1, 0.1, 0.1]], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
                 {0: _CONSTANT, 1: [0.0, 0.0, 0.0], 2: [1.0, 1.0, 1.0]}, value=[[1.0, 2.0, 3.0]]),
            Trap("a row of zeros, eps = 0", ([[0.0, 0.0]], [1.0, 2.0], [3.0, 4.0]),
                 {0: [[0.0, 0.0]], 1: [0.0, 0.0]}, value=[[3.0, 4.0]], static={"eps": 0.0}),
            Trap("a row far from 0", (_FAR, [1.0, 2.0, 4.0, 9.0], [0.0] * 4),
                 {0: [[-0.53667134, -1.07331406, -2.14659950, 3.75658490]],
                  1: [-1.34163542, -0.44721181, 1.34163542, 0.44721181]},
                 value=[[-1.34163542, -0.89442361, 5.36654168, 4.02490626]]),
            Trap("bfloat16 gradients over 16384 rows", ([[1.0, -1.0]] * 16384, [1.0, 1.0], [0.0, 0.0]),
                 {1: [16384.0, -16384.0], 2: [16384.0, 16384.0]}, dtype="bfloat16"),
        ),
        tuple(
            Bench(str(shape), (normal(*shape), normal(shape[-1]), normal(shape[-1])), {"plain": _plain_layer},
                  memory=1.05, peers={**_flax("LayerNorm", epsilon=1e-5),
                                      **({"equinox": _equinox_layer("LayerNorm")} if len(shape) == 2 else {})})
            for shape in ((1024, 1024), (8, 256, 256))
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip

register(
    Entry(
        ops.rms_norm,
        ("norm.peers",),
        (
            Case(lambda lead: (_uniform(*lead, 5), normal(5)), {"eps": 1e-6}, terms=_rows,
                 oracle=_rms_oracle),
            Case(lambda lead: (_uniform(*lead, 256), normal(256)), {"eps": 1e-6}, "long rows", _rms_oracle, _rows),
            Case(lambda lead: (_uniform(*lead, 5), absent), {"eps": 1e-2}, "no scale", terms=_rows,
                 oracle=lambda torch, x, eps: torch.nn.functional.rms_norm(x, (5,), None, eps)),
        ),
        (
            Trap("a row of zeros", ([[0.0, 0.0]], [1.0, 2.0]), {0: [[1000.0, 2000.0]], 1: [0.0, 0.0]},
                 value=[[0.0, 0.0]]),
            Trap("a row of zeros, eps = 0", ([[0.0, 0.0]], [1.0, 2.0]), {0: [[0.0, 0.0]], 1: [0.0, 0.0]},
                 value=[[0.0, 0.0]], static={"eps": 0.0}),
            Trap("bfloat16 gradient over 16384 rows", ([[1.0, 1.0]] * 16384, [1.0, 1.0]), {1: [16384.0, 16384.0]},
                 dtype="bfloat16"),
        ),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), normal(1024)), {"plain": _plain_rms}, memory=1.05,
                  peers={**_flax("RMSNorm", epsilon=1e-6), "equinox": _equinox_layer("RMSNorm")}),
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip

_IMAGES = (normal(16, 28, 28, 64), normal(64), normal(64))

register(
    Entry(
        ops.instance_norm,
        ("norm.instance_group",),
        (
            Case(lambda lead: (_uniform(*lead, 2, 3, 4), normal(4), normal(4)), oracle=_instance_oracle, terms=_size),
            Case(lambda lead: (_uniform(*lead, 5, 4), absent, absent), {"spatial": 1}, "sequences", _instance_oracle,
                 _size),
        ),
        (
            Trap("a constant channel", ([[0.1, 1.0], [0.1, 3.0], [0.1, 2.0]], [1.0, 1.0], [5.0, 0.0]),
                 {0: [[0.0] * 2] * 3, 2: [3.0, 3.0]}, static={"spatial": 1}),
        ),
        (
            Bench("(16, 28, 28, 64)", _IMAGES, {"plain": _plain_instance}, memory=1.05,
                  peers=_flax("InstanceNorm", epsilon=1e-5)),
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip

register(
    Entry(
        ops.group_norm,
        ("norm.instance_group",),
        (
            Case(lambda lead: (_uniform(*lead, 2, 3, 6), normal(6), normal(6)), {"groups": 2}, oracle=_group_oracle,
                 terms=_size),
            Case(lambda lead: (_uniform(*lead, 6), absent, absent), {"groups": 2, "spatial": 0}, "no space",
                 _group_oracle, _size),
        ),
        (
            Trap("a constant group", ([0.1, 0.1, 1.0, 3.0], [1.0] * 4, [5.0, 5.0, 0.0, 0.0]),
                 {2: [1.0] * 4}, static={"groups": 2, "spatial": 0}, value=[5.0, 5.0, -0.999995, 0.999995]),
        ),
        (
            Bench("(16, 28, 28, 64), 8 groups", _IMAGES, {"plain": _plain_group}, static={"groups": 8}, memory=1.05,
                  peers={**_flax("GroupNorm", num_groups=8, epsilon=1e-5), "equinox": _equinox_group}),
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip


def _batch_y(x, scale, bias):
    return ops.batch_norm(x, scale, bias)[0]


# With few rows in a batch and a small eps the gradient in x is the small difference of large numbers.
_EPS = {"eps": 1e-2}

register(
    Entry(
        ops.batch_norm,
        ("norm.batch",),
        (
            Case(lambda lead: (_uniform(*lead, 5), normal(5), normal(5)), _EPS, oracle=_batch_oracle, terms=_size,
                 scalar_rows=False, empty=False),
            Case(lambda lead: (_uniform(*lead, 5), absent, absent), _EPS, "no parameters", _batch_oracle, _size,
                 scalar_rows=False, empty=False),
            Case(lambda lead: (_uniform(*lead, 3, 2, 4), normal(4), normal(4)), _EPS, "images", _batch_oracle, _size,
                 empty=False),
        ),
        (
            Trap("a constant channel", ([[0.1, 1.0], [0.1, 3.0]], [1.0, 1.0], [5.0, 0.0]),
                 {0: [[0.5, -0.5], [0.5, 1.5]], 2: [2.0, 2.0]}, value=[5.0, -0.999995, 5.0, 0.999995, 0.1, 2.0, 0, 1]),
            Trap("one row, eps = 0", ([[3.0, 0.0]], [1.0, 1.0], [5.0, 6.0]), {0: [[1.0, 1.0]], 1: [0.0, 0.0]},
                 value=[5.0, 6.0, 3.0, 0.0, 0.0, 0.0], static={"eps": 0.0}),
        ),
        tuple(
            Bench(str(shape), (normal(*shape), normal(shape[-1]), normal(shape[-1])), {"plain": _plain_batch}, _batch_y,
                  memory=1.05, peers=_flax("BatchNorm", use_running_average=False, epsilon=1e-5))
            for shape in ((1024, 512), (16, 28, 28, 64))
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.batch_norm_inference,
        ("norm.batch",),
        (
            Case(lambda lead: (_uniform(*lead, 5), normal(5), uniform(0.5, 2.0, 5), normal(5), normal(5)),
                 oracle=_inference_oracle, terms=_size),
            Case(lambda lead: (_uniform(*lead, 5), normal(5), uniform(0.5, 2.0, 5), absent, absent),
                 name="no parameters", oracle=_inference_oracle, terms=_size),
        ),
        (Trap("variance 0, eps = 0", ([2.0], [1.0], [0.0]), {0: [0.0], 1: [0.0], 2: [0.0]}, value=[0.0],
              static={"eps": 0.0}),),
        (
            Bench("(1024, 512)", (normal(1024, 512), normal(512), uniform(0.5, 2.0, 512), normal(512), normal(512)),
                  {"plain": _plain_inference}, memory=1.05),
        ),
    )
)  # fmt: skip


def _weight_oracle(torch, v, g, axis=-1):
    if axis is None:
        return g * v / v.norm()
    shape = [1] * v.ndim
    shape[axis] = -1
    return torch._weight_norm(v.movedim(axis, 0).contiguous(), g.reshape(-1, *[1] * (v.ndim - 1)), 0).movedim(0, axis)


def _plain_weight(v, g):
    return v * (g / jnp.linalg.norm(v, axis=0))


register(
    Entry(
        ops.weight_norm,
        ("norm.peers",),
        (
            Case(lambda lead: (_uniform(*lead, 5, 3), normal(3)), oracle=_weight_oracle, terms=_size),
            Case(lambda lead: (_uniform(*lead, 2, 3), normal()), {"axis": None}, "one length", _weight_oracle, _size),
            Case(lambda lead: (_uniform(*lead, 5, 3), normal(5)), {"axis": -2}, "an inner axis", _weight_oracle, _size),
        ),
        (
            Trap("zeros", ([[0.0], [0.0]], [2.0]), {0: [[0.0], [0.0]], 1: [0.0]}, value=[[0.0], [0.0]]),
        ),
        (Bench("(1024, 1024)", (normal(1024, 1024), normal(1024)), {"plain": _plain_weight}, memory=1.05),),
        homogeneous=(0, {}),
    )
)  # fmt: skip


def _positive(*shape):
    return uniform(0.5, 1.5, *shape)


register(
    Entry(
        ops.spectral_quotient,
        ("norm.peers",),
        (
            Case(lambda lead: (_positive(*lead, 3, 4), _positive(4), _positive(*lead, 3)), terms=_size,
                 oracle=lambda torch, w, u, v: w / torch.einsum("...i,...io,o->", v, w, u)),
        ),
        (Trap("zeros", ([[0.0]], [1.0], [1.0]), {0: [[0.0]], 1: [0.0], 2: [0.0]}, value=[[0.0]]),),
        (
            Bench("(1024, 1024)", (_positive(1024, 1024), _positive(1024), _positive(1024)),
                  {"plain": lambda w, u, v: w / (v @ w @ u)}, memory=1.05),
        ),
        homogeneous=(0, {}),
    )
)  # fmt: skip
