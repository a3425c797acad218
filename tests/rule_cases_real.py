"""Examples for the rules of real arithmetic, reductions, structure and products."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special

X = np.array([[0.31, -0.72, 1.43, 0.94], [-1.15, 0.56, 0.27, -0.38], [0.49, 2.1, -0.61, 0.83]])
Y = np.array([[1.21, 0.62, -0.73, 0.34], [0.15, -1.36, 0.77, 0.48], [-0.29, 0.3, 1.71, -0.63]])
POSITIVE = np.abs(X) + 0.5
UNIT = X / 3
IMAGE = np.sin(np.arange(2 * 7 * 6 * 4, dtype=float) * 1.7).reshape(2, 7, 6, 4)
INDEX = np.array([2, 0, 2])
KERNEL = np.cos(np.arange(3 * 2 * 2 * 6, dtype=float)).reshape(3, 2, 2, 6)
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(**options):
    return lambda x, k: lax.conv_general_dilated(x, k, **{"dimension_numbers": NHWC, **options})


def window(init, op, *options, **more):
    return lambda x: lax.reduce_window(x, init, op, *options, **more)


def jax_cumulative(name, **options):
    return lambda x: getattr(lax, name)(x, 1, **options)


# Primitive → list of (function, arguments).
CASES = {
    "neg": [(lambda x: -x, X)],
    "add": [(lambda x, y: x + y, X, Y), (lambda x, y: x + y, X, Y[:1]), (lambda x: x + 2.0, X)],
    "sub": [(lambda x, y: x - y, X, Y), (lambda x, y: x - y, X[:, :1], Y)],
    "mul": [(lambda x, y: x * y, X, Y), (lambda x, y: x * y, X, np.float64(1.5))],
    "div": [(lambda x, y: x / y, X, Y), (lambda x, y: x / y, X, Y[:1, :1])],
    "rem": [(lax.rem, X + 0.05, Y)],
    "square": [(jnp.square, X)],
    "sqrt": [(jnp.sqrt, POSITIVE)],
    "rsqrt": [(lax.rsqrt, POSITIVE)],
    "cbrt": [(jnp.cbrt, POSITIVE)],
    "integer_pow": [(lambda x: x**3, X), (lambda x: x**-2, X), (lambda x: lax.integer_pow(x, 0), X)],
    "pow": [
        (lambda x: x**2.5, np.float64(1.7)),
        (jnp.power, POSITIVE, Y), (lambda x: lax.pow(x, jnp.int32(3)), X), (lambda y: 2.5**y, Y)],
    "polynomial": [(lambda x: jnp.polyval(jnp.array([2.0, 3.0, 1.0, 0.5]), x), X)],
    "one_minus_square": [(getattr(lax, "one_minus_square", lambda x: 1 - x * x), X)],
    "exp": [(jnp.exp, X)],
    "exp2": [(jnp.exp2, X)],
    "expm1": [(jnp.expm1, X)],
    "log": [(jnp.log, POSITIVE)],
    "log2": [(jnp.log2, POSITIVE)],
    "log1p": [(jnp.log1p, POSITIVE)],
    "logistic": [(lax.logistic, X)],
    "sin": [(jnp.sin, X)],
    "cos": [(jnp.cos, X)],
    "tan": [(jnp.tan, X)],
    "asin": [(jnp.asin, UNIT)],
    "acos": [(jnp.acos, UNIT)],
    "atan": [(jnp.atan, X)],
    "atan2": [(jnp.atan2, X, Y)],
    "sinh": [(jnp.sinh, X)],
    "cosh": [(jnp.cosh, X)],
    "tanh": [(jnp.tanh, X)],
    "asinh": [(jnp.asinh, X)],
    "acosh": [(jnp.acosh, POSITIVE + 1)],
    "atanh": [(jnp.atanh, UNIT)],
    "erf": [(special.erf, X)],
    "erfc": [(special.erfc, X)],
    "erf_inv": [(special.erfinv, UNIT)],
    "lgamma": [(special.gammaln, POSITIVE)],
    "digamma": [(special.digamma, POSITIVE)],
    "max": [(jnp.maximum, X, Y), (lambda x: jnp.maximum(x, x), X), (lambda x: jnp.maximum(x, 0.0), X)],
    "min": [(jnp.minimum, X, Y), (lambda x: jnp.minimum(0.5, x), X)],
    "clamp": [(lambda x: lax.clamp(-0.5, x, 0.9), X), (lax.clamp, X - 0.1, Y, X + 0.4)],
    "select_n": [
        (lambda x, y: jnp.where(x > y, x, y), X, Y),
        (lambda x, y: lax.select_n(jnp.array(INDEX % 3)[:, None] * jnp.ones((3, 4), int), x, y, x * y), X, Y),
    ],
    "convert_element_type": [(lambda x: x.astype(jnp.float32).astype(jnp.float64), X)],
    "reduce_precision": [(lambda x: lax.reduce_precision(x, 11, 30), X)],
    "optimization_barrier": [(lambda x, y: lax.optimization_barrier((x, y))[0] * y, X, Y)],
    "copy": [(lambda x: jnp.array(x, copy=True) * x, X)],
    "device_put": [(lambda x: jax.device_put(x) * x, X)],
    "reduce_sum": [(lambda x: jnp.sum(x, 0), X), (lambda x: jnp.sum(x), X)],
    "reduce_max": [(lambda x: jnp.max(x, 1), X), (lambda x: jnp.max(jnp.round(x), 1) * jnp.sum(x), X)],
    "reduce_min": [(lambda x: jnp.min(x, (0, 1)), X)],
    "reduce_prod": [(lambda x: jnp.prod(x, 1), X), (lambda x: jnp.prod(x * (x > 0), 1), X), (jnp.prod, X)],
    "cumsum": [(jax_cumulative("cumsum"), X), (jax_cumulative("cumsum", reverse=True), X)],
    "cumprod": [(jax_cumulative("cumprod"), X), (jax_cumulative("cumprod", reverse=True), X)],
    "cummax": [(jax_cumulative("cummax"), X), (jax_cumulative("cummax", reverse=True), X)],
    "cummin": [(jax_cumulative("cummin"), X), (jax_cumulative("cummin", reverse=True), X)],
    "cumlogsumexp": [(jax_cumulative("cumlogsumexp"), X), (jax_cumulative("cumlogsumexp", reverse=True), X)],
    "reshape": [
        (lambda x: x.reshape(2, 6), X),
        (lambda x: jnp.reshape(x, (6, 2), order="F"), X),
        (lambda x: lax.reshape(x, (7, 48), (1, 3, 0, 2)), IMAGE),
    ],
    "squeeze": [(lambda x: lax.squeeze(x[:1], (0,)), X)],
    "broadcast_in_dim": [(lambda x: jnp.broadcast_to(x[:, :1, None], (5, 3, 4, 2)), X)],
    "transpose": [(lambda x: x.transpose(2, 0, 3, 1), IMAGE)],
    "rev": [(lambda x: jnp.flip(x, 1), X)],
    "slice": [(lambda x: x[1:, ::2], X), (lambda x: lax.slice(x, (0, 1), (3, 4), (2, 2)), X)],
    "pad": [(lambda x, v: lax.pad(x, v, ((1, 2, 1), (-1, 1, 2))), X, np.float64(0.3))],
    "concatenate": [(lambda x, y: jnp.concatenate([x, y[:1], x]), X, Y)],
    "split": [(lambda x: jnp.split(x, [1, 3], axis=1)[1], X)],
    "stack": [(lambda x, y: jnp.stack([x, y, x], 1), X, Y)],
    "unstack": [(lambda x: jnp.unstack(x, axis=1)[2], X)],
    "tile": [(lambda x: jnp.tile(x, (2, 3)), X)],
    "dynamic_slice": [(lambda x: lax.dynamic_slice(x, (1, 7), (2, 2)), X)],
    "dynamic_update_slice": [(lambda x, y: lax.dynamic_update_slice(x, y[:2, :2], (1, 5)), X, Y)],
    "gather": [
        (lambda x: x[INDEX], X),
        (lambda x: x[INDEX[:, None], INDEX], X),
        (lambda x: jnp.take_along_axis(x, INDEX[:, None], 1), X),
        (lambda x: jnp.take(x, np.array([0, 7]), axis=0, mode="fill", fill_value=0.0), X),
        (lambda x: jnp.take(x, np.array([0, 7]), axis=0, mode="clip"), X),
        (lambda x: jax.vmap(lambda r, i: r[i])(x, INDEX), X),
    ],
    "scatter-add": [(lambda x, y: x.at[INDEX].add(y), X, Y), (lambda x, y: x.at[:, INDEX].add(y[:, :3]), X, Y)],
    "scatter": [
        (lambda x, y: x.at[1].set(y[0]), X, Y),
        (lambda x, y: x.at[INDEX, INDEX].set(y[0, :3]), X, Y),
        (lambda x, y: x.at[:, 1:3].set(y[:, :2]), X, Y),
    ],
    "sort": [(lambda x: jnp.sort(x, 1), X), (lambda x, y: lax.sort((x, y), dimension=0, num_keys=1)[1], X, Y)],
    "top_k": [(lambda x: lax.top_k(x, 2)[0], X)],
    "dot_general": [
        (lambda x, y: x @ y.T, X, Y),
        (lambda a, b: jnp.einsum("bhwc,bwdc->bdh", a, b), IMAGE, IMAGE[:, :6, :5]),
        (lambda a, b: jnp.einsum("bhwc,cdhb->dwb", a, b), IMAGE, IMAGE.transpose(3, 2, 1, 0)[:, :4]),
        (lambda a, b: jnp.einsum("hwc,cw->h", a, b), IMAGE[0], IMAGE[0, 0].T),
    ],
    "conv_general_dilated": [
        (conv(window_strides=(1, 1), padding="SAME", feature_group_count=2), IMAGE, KERNEL),
        (conv(window_strides=(2, 1), padding=((1, 0), (2, 1)), rhs_dilation=(2, 1), feature_group_count=2),
         IMAGE, KERNEL),
        (conv(window_strides=(1, 2), padding=((1, 2), (0, 1)), lhs_dilation=(2, 3)), IMAGE[..., :2], KERNEL),
        (conv(window_strides=(3, 2), padding=((-1, 2), (0, 3))), IMAGE[..., :2], KERNEL),
        (conv(window_strides=(1, 1), padding="SAME", batch_group_count=2), IMAGE[..., :2], KERNEL),
        (jax.vmap(conv(window_strides=(1, 2), padding="SAME", feature_group_count=2)),
         np.stack([IMAGE, IMAGE[::-1]]), np.stack([KERNEL, KERNEL[::-1]])),
        (
            lambda x, k: lax.conv_general_dilated(x, k, (2, 1), "SAME", dimension_numbers=("CHWN", "OHWI", "NCHW")),
            IMAGE.transpose(3, 1, 2, 0),
            KERNEL.transpose(3, 0, 1, 2)[..., [0, 1, 0, 1]],
        ),
    ],
    "reduce_window_sum": [
        (window(0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "SAME"), IMAGE),
        (window(0.0, lax.add, (1, 2, 2, 1), (1, 1, 2, 1), ((0, 0), (2, 1), (0, 1), (0, 0)),
                base_dilation=(1, 2, 1, 1), window_dilation=(1, 1, 2, 1)), IMAGE),
    ],
    "reduce_window_max": [
        (window(-np.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), "SAME"), IMAGE),
        (window(-np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), IMAGE),
        (window(-np.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 2), (0, 1), (0, 0)),
                base_dilation=(1, 2, 1, 1)), IMAGE),
    ],
    "reduce_window_min": [(window(np.inf, lax.min, (1, 3, 3, 1), (1, 1, 2, 1), "VALID"), IMAGE)],
}  # fmt: skip
