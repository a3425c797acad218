"""Sampling: with caches as without, past the end of the context, and what cannot be continued."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn
from dlfn.nn import models
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
PROMPT = np.random.default_rng(0).integers(0, 11, (2, 3))


def greedy(logits_of, prompt, length):
    """The most likely tokens by the logits of all tokens so far, computed anew for each."""
    tokens = np.asarray(prompt)
    for _ in range(length):
        tokens = np.concatenate([tokens, np.argmax(logits_of(tokens), -1)[:, None]], 1)
    return tokens[:, prompt.shape[1] :]


def padded(model, params, size):
    """The logits after the last of some tokens; those behind them do not matter to a causal model."""
    apply = jax.jit(lambda tokens: model.apply(params, (), tokens)[0])

    def last(tokens):
        filled = np.pad(tokens, ((0, 0), (0, size - tokens.shape[1])))
        return np.asarray(apply(filled))[:, tokens.shape[1] - 1]

    return last


def windowed(model, window):
    """The model whose attention sees so many tokens, by a mask over the whole."""

    class Windowed(nn.Layer):
        def __init__(self, layer):
            self.layer = layer

        def init(self, key, x):
            return self.layer.init(key, x)

        def apply(self, params, state, x, *, key=None, train=False):
            i = jnp.arange(x.shape[-2])
            near = (i[:, None] >= i) & (i[:, None] - i < window)
            return self.layer.apply(params, state, (x, x, near), key=key, train=train)

    def changed(layer):
        if isinstance(layer, nn.MultiHeadAttention):
            return Windowed(layer)
        children = {name: changed(child) for name, child in layer.children().items()}
        return layer.with_children(children) if children else layer

    return changed(model)


MODELS = {
    "gpt": models.gpt(11, context=16, layers=2, heads=2, width=8, keep_prob=0.9),
    "rope": models.gpt(11, context=16, layers=2, heads=2, width=8, positions="rope", tied=False, checkpoint=True),
    "lstm": models.lstm(11, width=6, layers=2, keep_prob=0.9, embedding=4),
    "layers": nn.Serial(
        nn.Embedding(11, 8), nn.SinusoidalPositions(), nn.GRU(8),
        nn.Repeat(nn.TransformerBlock(2, causal=True, positions="alibi"), 2), nn.Linear(11),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name in ("rope", "layers") else ()) for name in MODELS]
)
def test_greedy_decoding_is_that_without_caches(name):
    model = MODELS[name]
    params, state = initialised(model, PROMPT)
    tokens = nn.generate(model, params, state, PROMPT, 12, temperature=0)
    np.testing.assert_array_equal(tokens, greedy(padded(model, params, 16), PROMPT, 12))
    assert tokens.dtype == jnp.asarray(PROMPT).dtype


def test_past_the_context_each_token_sees_the_window_before_it():
    model = models.gpt(11, context=5, layers=2, heads=2, width=8, positions="rope", tied=False, checkpoint=True)
    params, _ = initialised(model, PROMPT)
    expected = greedy(padded(windowed(model, 5), params, 18), PROMPT, 15)
    np.testing.assert_array_equal(nn.generate(model, params, (), PROMPT, 15, temperature=0), expected)


def test_past_learned_positions_the_last_half_is_read_again():
    model = models.gpt(11, context=6, layers=1, heads=2, width=8)
    params, _ = initialised(model, PROMPT)
    last = padded(model, params, 6)
    start = 0

    def logits_of(tokens):
        nonlocal start
        if tokens.shape[1] - start > 6:
            start = tokens.shape[1] - 3
        return last(tokens[:, start:])

    # From a table of 6, 4 tokens after 3, and each time that 3 are read again; of a prompt of 9 the last 6 are read.
    for prompt, length in ((PROMPT, 12), (np.tile(PROMPT, (1, 3)), 5)):
        start = max(0, prompt.shape[1] - 6)
        expected = greedy(logits_of, prompt, length)
        np.testing.assert_array_equal(nn.generate(model, params, (), prompt, length, temperature=0), expected)


def test_what_is_drawn_follows_the_probabilities():
    bias = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    model = nn.Serial(nn.Embedding(4, 2), nn.Linear(4))
    params = {"table": jnp.zeros((4, 2))}, {"w": jnp.zeros((2, 4)), "b": bias}

    def shares(**options):
        tokens = nn.generate(model, params, (), jnp.zeros((1000, 1), int), 4, key=KEY, **options)
        return np.bincount(np.ravel(tokens), minlength=4) / 4000

    np.testing.assert_allclose(shares(), [0.1, 0.2, 0.3, 0.4], atol=0.03)
    np.testing.assert_allclose(shares(top_k=2), [0, 0, 3 / 7, 4 / 7], atol=0.03)
    np.testing.assert_allclose(shares(temperature=0.5), np.array([1, 4, 9, 16]) / 30, atol=0.03)


def test_tokens_do_not_depend_on_how_many_follow():
    model = MODELS["lstm"]
    params, _ = initialised(model, PROMPT)
    few, more = (nn.generate(model, params, (), PROMPT, n, key=KEY) for n in (2, 4))
    np.testing.assert_array_equal(more[:, :2], few)
    assert nn.generate(model, params, (), PROMPT, 0, key=KEY).shape == (2, 0)


def _generate(model=MODELS["lstm"], state=(), prompt=PROMPT, length=2, **options):
    options = {"key": KEY, **options}
    nn.generate(model, initialised(model, PROMPT)[0], state, prompt, length, **options)


def _of(layer):
    return _generate(nn.Serial(embedding=nn.Embedding(11, 8), body=layer, head=nn.Linear(11)))


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: _generate(prompt=np.ones((2, 3))), ["prompt is", "integers"]),
        (lambda: _generate(prompt=np.ones((2, 0), int)), ["prompt is", "one step at least"]),
        (lambda: _generate(length=-1), ["length is -1"]),
        (lambda: _generate(top_k=0), ["top_k is 0", "from 1 on"]),
        (lambda: _generate(context=0), ["context is 0"]),
        (lambda: _generate(temperature=-1.0), ["temperature is -1.0"]),
        (lambda: _generate(key=None), ["needs a key", "temperature=0"]),
        (lambda: _generate(state={"mean": jnp.ones(3)}), ["state is", "empty"]),
        (lambda: _of(nn.TransformerBlock(2)), ["layer 'body/attention", "causal=True"]),
        (lambda: _of(nn.Bidirectional(nn.LSTM(4))), ["layer 'body/backward'", "from the first step to the last"]),
        (lambda: _of(nn.Stacked(nn.LSTM(4, reverse=True))), ["layer 'body", "from the first step to the last"]),
        (lambda: _of(nn.Conv(8, (3,), padding="SAME")), ["layer 'body'", 'takes = "steps"']),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)


def test_a_copy_of_a_model_is_the_same_model():
    """Or else every call would compile anew."""
    assert dataclasses.replace(MODELS["gpt"]) == models.gpt(11, context=16, layers=2, heads=2, width=8, keep_prob=0.9)
