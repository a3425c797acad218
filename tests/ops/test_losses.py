"""Losses: arguments that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

Z = jnp.array([[0.3, -1.2], [2.0, 0.5]])

OUT_OF_RANGE = {
    "pixels": (ops.binary_cross_entropy, 255 * jnp.ones((2, 2)), ["labels has the entry 255", "in [0, 1]"]),
    "signs": (ops.binary_cross_entropy, -jnp.ones((2, 2)), ["labels has the entry -1", "(labels + 1) / 2"]),
    "focal": (ops.binary_focal_loss, 2 * jnp.ones((2, 2)), ["binary_focal_loss: labels has the entry 2"]),
    "bits": (ops.hinge, jnp.eye(2), ["hinge: labels has the entry 0", "2 * labels - 1 for 0 and 1"]),
    "negative": (ops.softmax_cross_entropy, jnp.array([[1.0, 0.0], [2.0, -1.0]]), ["labels has the entry -1"]),
    "temperature 0": (lambda z, t: ops.info_nce(z, z, t), 0.0, ["temperature is 0", "positive and finite"]),
    "temperature -1": (lambda z, t: ops.info_nce(z, z, t), -1.0, ["info_nce: temperature is -1"]),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused(name, refused):
    loss, argument, parts = OUT_OF_RANGE[name]
    refused(lambda: loss(Z, argument), parts)
    refused(lambda: jax.grad(loss)(Z, argument), parts)
    jax.jit(loss)(Z, argument)  # there are no values yet


def test_what_is_no_array_is_shown_to_its_cut(refused):
    refused(
        lambda: ops.mse([1.0, 2.0], Z), ["mse: prediction is list [Array(1., dtype=float32,", "..., and must be a fl"]
    )
    refused(lambda: ops.mse({"z": Z}, Z), ["mse: prediction is dict {'z': Array([[ 0.3, -1.2], [ 2. , 0.5]], dtype"])


def test_labels_in_use_are_accepted():
    """Sums of parts of 1, rows with weights, and rows of 0, which do not count."""
    sums = jnp.full((2, 2), sum(np.float32(0.1) for _ in range(10)), jnp.float32)
    assert sums[0, 0] > 1
    assert ops.binary_cross_entropy(Z, sums) > 0
    rows = jnp.array([[0.0, 0.0], [0.0, 3.0]])
    expected = [0, 3 * ops.softmax_cross_entropy(Z[1], jnp.array(1))]
    np.testing.assert_allclose(ops.softmax_cross_entropy(Z, rows, reduction="none"), expected, rtol=1e-6)


def test_distributions_of_half_types_sum_to_one_but_for_rounding():
    labels = jnp.full((2, 1000), 1e-3, jnp.bfloat16)
    loss = ops.softmax_cross_entropy(jnp.zeros((2, 1000), jnp.bfloat16), labels)
    np.testing.assert_allclose(loss, np.log(1000), rtol=1e-2)
