"""Embeddings and heads: what the sweeps cannot see."""

import functools
import inspect
import itertools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops
from dlfn.core.platforms import ByPlatform
from dlfn.ops.losses._head import ON_CPUS

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def dots(f, *args):
    """How many matrix products the compiled program has; a loop's body counts once."""
    return len(re.findall(r" dot\(", jax.jit(f).lower(*args).compile().as_text()))


def test_gradients_are_left_out_where_only_the_value_is_wanted():
    x, w, labels = jnp.ones((8, 16)), jnp.ones((16, 32)), jnp.zeros(8, int)

    def loss(x, w):
        return ops.linear_cross_entropy(x, w, labels, chunk=2)

    def in_a_loop(x, w):
        return jax.lax.scan(lambda total, _: (total + loss(x, w), None), 0.0, None, length=3)[0]

    assert dots(loss, x, w) == dots(in_a_loop, x, w) == 1
    assert dots(jax.grad(loss), x, w) == dots(jax.grad(loss, 1), x, w) == 2
    assert dots(jax.grad(loss, (0, 1)), x, w) == 3


HEADS = list(itertools.product(("mean", "none"), (False, True), (0.0, 0.1)))


@pytest.mark.parametrize(
    ("reduction", "classes_first", "label_smoothing"),  # every pair of settings in every run
    [pytest.param(*head, marks=[pytest.mark.exhaustive] * (i not in (0, 3, 5, 6))) for i, head in enumerate(HEADS)],
)
def test_blocks_of_classes(monkeypatch, x64, reduction, classes_first, label_smoothing):
    """They only form in large heads: here of 128 classes, with some left over; with a bias that leaves out a class of
    each, and labels to ignore."""
    module = sys.modules["dlfn.ops.losses.linear_cross_entropy"]
    for name in ("_run", "_run_back"):
        function = inspect.unwrap(getattr(module, name).default).func
        monkeypatch.setattr(module, name, ByPlatform(functools.partial(function, plan=ON_CPUS._replace(block=1))))
    x, w = jax.random.normal(KEY, (7, 3)), jax.random.normal(KEY, (300, 3) if classes_first else (3, 300))
    bias = jax.random.normal(KEY, (300,)).at[jnp.array([5, 200, 299])].set(-jnp.inf)
    labels = jnp.array([0, 40, -100, 127, 128, 255, 298])
    static = dict(reduction=reduction, label_smoothing=label_smoothing)
    if label_smoothing:
        bias = jnp.where(jnp.isinf(bias), 0, bias)  # a smoothed label of such a class costs inf

    def of_blocks(x, w, b):
        return ops.linear_cross_entropy(x, w, labels, b, classes_first=classes_first, chunk=3, **static)

    def of_whole_logits(x, w, b):
        return ops.softmax_cross_entropy(ops.linear(x, w.T if classes_first else w, b), labels, **static)

    def value_and_gradients(f):
        loss = lambda *args: jnp.sum(jnp.sin(f(*args)))  # noqa: E731
        return jax.tree.leaves(jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(x, w, bias))

    ours, expected = value_and_gradients(of_blocks), value_and_gradients(of_whole_logits)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_tied_head_is_the_table():
    layer = nn.Embedding(11, 4)
    ids = jnp.array([[1, 2], [3, 10]])
    params, state = layer.init(KEY, ids)
    x, _ = layer.apply(params, state, ids)
    np.testing.assert_array_equal(x, params["table"][ids])
    np.testing.assert_allclose(layer.logits(params, x), x @ params["table"].T, rtol=1e-6)
    expected = ops.softmax_cross_entropy(layer.logits(params, x), ids, label_smoothing=0.1)
    np.testing.assert_allclose(layer.loss(params, x, ids, label_smoothing=0.1), expected, rtol=1e-6)
    with pytest.raises(dlfn.InputError, match=r"Embedding\(vocabulary=11, features=4\) takes integers"):
        layer.apply(params, state, x)
