"""Penalties over trees of parameters, and the choice of parameters by path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

PARAMS = {
    "hidden": [{"w": jnp.array([[1.0, -2.0]]), "b": jnp.array([3.0])}],
    "logits": {"w": jnp.array([4.0], jnp.bfloat16), "b": jnp.array([5.0])},
    "steps": jnp.array(7),
}


def is_weight(path):
    return path.endswith("/w")


@pytest.mark.parametrize("where", [r"/w$", is_weight])
@pytest.mark.parametrize(
    ("op", "value", "slope"),
    [(ops.l2_penalty, 0.5 * (1 + 4 + 16), lambda w: w), (ops.l1_penalty, 1 + 2 + 4, jnp.sign)],
    ids=["l2", "l1"],
)
def test_only_chosen_paths_count(op, where, value, slope):
    def loss(params):
        return op(params, strength=1.0, where=where)

    np.testing.assert_allclose(loss(PARAMS), value)
    for f in (loss, dlfn.autodiff(loss)):
        gradient = jax.grad(f, allow_int=True)(PARAMS)
        for name, leaf in (("hidden", PARAMS["hidden"][0]), ("logits", PARAMS["logits"])):
            got = gradient["hidden"][0] if name == "hidden" else gradient["logits"]
            assert jnp.array_equal(got["w"], slope(leaf["w"]))
            assert got["w"].dtype == leaf["w"].dtype
            assert jnp.array_equal(got["b"], jnp.zeros_like(leaf["b"]))


def test_errors_name_the_paths():
    with pytest.raises(
        dlfn.InputError, match=r"l2_penalty: where chooses none of the paths: 'hidden/0/b', .*'logits/w'"
    ):
        ops.l2_penalty(PARAMS, strength=1.0, where="kernel")
    with pytest.raises(dlfn.InputError, match="l1_penalty: params at 'steps' is int32"):
        ops.l1_penalty(PARAMS, strength=1.0)
    with pytest.raises(dlfn.InputError, match="no regular expression"):
        ops.l1_penalty(PARAMS, strength=1.0, where="(")
    with pytest.raises(dlfn.InputError, match="params has no arrays"):
        ops.l2_penalty({}, strength=1.0)
    with pytest.raises(dlfn.InputError, match="strength is -1"):
        ops.l2_penalty(PARAMS, strength=-1.0)
