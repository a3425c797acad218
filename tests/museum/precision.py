"""Gradients that are wrong by where they are computed: in few digits, or on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]


# Cotangents are added up in a type of 8 bits.


def embedding(table, ids):
    return table.astype(jnp.float32)[ids].astype(table.dtype)


def embedding_forward(table, ids):
    return embedding(table, ids), (table, ids)


def embedding_backward(dtype, residuals, dy):
    table, ids = residuals

    def add(total, row):
        return total.at[row[0]].add(row[1].astype(dtype)), None

    return lax.scan(add, jnp.zeros(table.shape, dtype), (ids, dy))[0].astype(table.dtype), None


def embedding_right(residuals, dy):
    return embedding_backward(jnp.float32, residuals, dy)


def embedding_wrong(residuals, dy):
    return embedding_backward(residuals[0].dtype, residuals, dy)


def summed(backward):
    rule = ruled(embedding, embedding_forward, backward)

    def total(table, ids):
        return jnp.sum(rule(table, ids).astype(jnp.float32))

    return total


# The backward pass runs in another half type than the forward pass.


def product(x, weight):
    return x @ weight


def product_forward(x, weight):
    return x @ weight, (x, weight)


def product_right(residuals, dy):
    x, weight = residuals
    return dy @ weight.T, x.T @ dy


def product_wrong(residuals, dy):
    half = product_right([x.astype(jnp.float16) for x in residuals], dy.astype(jnp.float16))
    return tuple(dx.astype(x.dtype) for dx, x in zip(half, residuals, strict=True))


# The transpose of a sum over devices sums once more.


def sum_over_devices(x):
    return lax.psum(x, "devices")


def sum_over_devices_forward(x):
    return sum_over_devices(x), None


def sum_over_devices_right(_, dy):
    return (lax.pcast(dy, "devices", to="varying"),)


def sum_over_devices_wrong(_, dy):
    return (lax.pcast(lax.psum(lax.pcast(dy, "devices", to="varying"), "devices"), "devices", to="varying"),)


def on_two_devices(backward):
    total = ruled(sum_over_devices, sum_over_devices_forward, backward)

    def squares(x):
        mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))
        return jax.shard_map(lambda x: total(jnp.sum(x**2)), mesh=mesh, in_specs=P("devices"), out_specs=P())(x)

    return squares


EXHIBITS = (
    Exhibit(
        "MXNet: many cotangents of one row, in a half type",
        "https://github.com/apache/mxnet/issues/17703",
        "Cotangents are added up in the table's own type, and the sum stops growing once it is some hundred times one.",
        embedding,
        summed(embedding_right),
        summed(embedding_wrong),
        embedding_wrong,
        (normal(2, 1).astype(jnp.bfloat16), np.zeros(4096, np.int32)),
        "table",
        options={"dtype": None},
    ),
    Exhibit(
        "PyTorch: a backward pass in the other half type",
        "https://github.com/pytorch/pytorch/issues/87979",
        "The backward pass of a custom function runs in float16, whatever the forward pass ran in.",
        product,
        ruled(product, product_forward, product_right),
        ruled(product, product_forward, product_wrong),
        product_wrong,
        (normal(3, 4), normal(4, 2, seed=1)),
        "x",
    ),
    Exhibit(
        "jax: the transpose of a sum over devices",
        "https://github.com/jax-ml/jax/issues/3970",
        "psum was its own transpose: gradients are as many times too large as there are devices.",
        sum_over_devices,
        on_two_devices(sum_over_devices_right),
        on_two_devices(sum_over_devices_wrong),
        sum_over_devices_wrong,
        (normal(4, 3),),
        "x",
    ),
)
