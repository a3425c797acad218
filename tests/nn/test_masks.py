"""A mask on its way through a model: which steps count, and which sees which."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 5, 4))
# The steps of the first of the batch have padding in front, those of the second behind.
MASK = np.array([[False, False, True, True, True], [True, True, True, True, False]])
BLOCK = nn.TransformerBlock(2, causal=True, positions="rope")

STACKS = {
    "serial": nn.Serial(nn.Linear(4), BLOCK, BLOCK, nn.Linear(3)),
    "repeat": nn.Serial(nn.LearnedPositions(8), nn.Repeat(nn.Checkpointed(nn.TransformerBlock(2)), 2), nn.LayerNorm()),
    "parallel": nn.Parallel(
        nn.Residual(nn.MultiHeadAttention(2, positions="alibi", causal=True)), nn.Serial(nn.FeedForward(2), nn.Tanh()),
        merge="sum",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_each_of_a_batch_is_as_if_it_were_alone_without_its_padding(name):
    model = STACKS[name]
    params, state = initialised(model, X)

    @jax.jit
    def run(params):
        together, _ = model.apply(params, state, nn.Sequence(X, mask=MASK))
        return together, [model.apply(params, state, x[seen][None])[0] for x, seen in zip(X, MASK)]

    together, alone = run(params)
    np.testing.assert_array_equal(together.mask, MASK)
    for y, seen, expected in zip(together.values, MASK, alone):
        np.testing.assert_allclose(y[seen], expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(y[~seen], 0)


def test_what_is_masked_may_be_nan_and_gets_no_gradient():
    model = STACKS["serial"]
    params, state = initialised(model, X)
    padded = jnp.where(MASK[..., None], X, jnp.nan)

    def loss(params, x):
        return jnp.sum(model.apply(params, state, nn.Sequence(x, mask=MASK))[0].values ** 2)

    gradients = jax.jit(jax.grad(loss, (0, 1)))
    of_nan, of_numbers = (gradients(params, x) for x in (padded, X))
    for got, expected in zip(*map(jax.tree.leaves, (of_nan, of_numbers)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(of_nan[1][~MASK], 0)
    of_rules = jax.jit(dlfn.backprop(functools.partial(loss, x=padded)))(params)
    for got, expected in zip(*map(jax.tree.leaves, (of_rules, of_nan[0])), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_lengths_and_a_mask_together():
    model = STACKS["serial"]
    params, state = initialised(model, X)
    both = nn.Sequence(X, jnp.array([4, 5]), mask=MASK)
    one = nn.Sequence(X, mask=MASK & (np.arange(5) < np.array([[4], [5]])))
    ys = [model.apply(params, state, x)[0].values for x in (both, one)]
    np.testing.assert_allclose(*ys, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)])
def test_a_mask_of_pairs_is_that_of_the_attention(shape):
    pairs = jnp.broadcast_to(jax.random.bernoulli(KEY, 0.7, (*shape, 5, 5)) | jnp.eye(5, dtype=bool), (*shape, 5, 5))
    layer = nn.MultiHeadAttention(2)
    params, state = initialised(layer, X)
    model = nn.Serial(nn.Residual(layer), nn.Tanh())
    y, _ = model.apply((params, ()), (), nn.Sequence(X, mask=pairs))
    expected, _ = layer.apply(params, state, (X, X, pairs))
    np.testing.assert_allclose(y.values, jnp.tanh(X + expected), atol=1e-6)
    np.testing.assert_array_equal(y.mask, pairs)


def test_decoding_with_padding_in_front_is_decoding_without():
    """Learned positions and rope at once, over a rolling cache, a prompt and then step by step."""

    def model(cache):
        block = nn.TransformerBlock(2, causal=True, positions="rope", cache=cache)
        positions = nn.LearnedPositions(12, decoding=cache is not None)
        return nn.Serial(nn.Linear(4), positions, nn.Repeat(block, 2))

    x, mask = jax.random.normal(KEY, (2, 9, 3)), jnp.ones((2, 9), bool).at[0, :2].set(False)
    params, _ = initialised(model(None), x)
    decoder = model(9)
    _, state = decoder.init(KEY, nn.Sequence(x[:, :1], mask=mask[:, :1]))
    step, ys = jax.jit(decoder.apply), []
    prompt, state = step(params, state, nn.Sequence(x[:, :4].at[0, :2].set(jnp.nan), mask=mask[:, :4]))
    np.testing.assert_array_equal(prompt.values[0, :2], 0)
    for t in range(4, 9):
        y, state = step(params, state, x[:, t : t + 1])
        ys.append(y)
    found = jnp.concatenate([prompt.values, *ys], 1)
    for row, first in ((0, 2), (1, 0)):
        expected, _ = model(None).apply(params, (), x[row : row + 1, first:])
        np.testing.assert_allclose(found[row, first:], expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_a_language_model_takes_a_mask(positions):
    model = nn.models.gpt(7, context=8, layers=1, heads=2, width=8, positions=positions)
    tokens = jax.random.randint(KEY, (2, 5), 0, 7)
    params, state = initialised(model, tokens)
    x = nn.Sequence(jnp.where(MASK, tokens, -1), mask=MASK)
    labels = jnp.where(MASK, tokens, -100)
    run = jax.jit(lambda x, labels: (model.apply(params, state, x)[0], model.loss(params, state, x, labels)[0]))
    logits, losses = run(x, labels)
    for row, seen in enumerate(MASK):
        alone = tokens[row : row + 1, seen]
        expected = run(alone, alone)
        np.testing.assert_allclose(logits.values[row, seen], expected[0][0], atol=1e-5)
        np.testing.assert_allclose(losses[row, seen], expected[1][0], atol=1e-5)
    np.testing.assert_array_equal(losses[~MASK], 0)


def _attend(x, **options):
    layer = nn.MultiHeadAttention(2, **options)
    return layer.apply(*layer.init(KEY, X), x)


PAIRS = np.ones((1, 1, 5, 5), bool)


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.LSTM(3).init(KEY, nn.Sequence(X, mask=MASK)), ["takes sequences with lengths", "for attention"]),
        (lambda: nn.Stacked(nn.GRU(3)).init(KEY, nn.Sequence(X, mask=PAIRS)), ["lengths", "behind the steps"]),
        (lambda: nn.Conv(3, (3,)).init(KEY, nn.Sequence(X, mask=MASK)), ["a Sequence", "padding"]),
        (lambda: _attend(nn.Sequence(X, mask=MASK.astype(int))), ["mask is", "boolean", "astype(bool)"]),
        (lambda: _attend(nn.Sequence(X, mask=MASK[:, :4])), ["mask", "shape up to the axis of steps"]),
        (lambda: _attend(nn.Sequence(X, mask=np.eye(5, dtype=bool))), ["mask[None, None]"]),
        (lambda: _attend(nn.Sequence(X, mask=PAIRS[..., :4])), ["the mask is", "[5, 5]"]),
        (lambda: _attend((nn.Sequence(X, mask=PAIRS), X)), ["mask of pairs", "(x, context, mask)"]),
        (lambda: _attend(nn.Sequence(X, mask=MASK), causal=True, cache=5), ["made without", "call init"]),
        (lambda: _attend(nn.Sequence(X, mask=PAIRS), causal=True, cache=5), ["with a mask of steps or none"]),
        (lambda: BLOCK.init(KEY, (X, X, MASK)), ["a tuple of 3", "nn.Sequence(x, mask=mask)"]),
        (
            lambda: nn.LearnedPositions(8, decoding=True).apply(
                {"table": jnp.ones((8, 4))}, {"length": jnp.zeros((), int)}, nn.Sequence(X, mask=MASK)
            ),
            ["init was called without"],
        ),
    ],
)  # fmt: skip
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)
