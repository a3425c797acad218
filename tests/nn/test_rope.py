"""Rotary positions with settings: the frequencies of each scaling, and attention that takes them."""

import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, ops
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
LLAMA = nn.Llama3Scaling(32.0, 1.0, 4.0, 8192)
# With settings under the names of Hugging Face, for transformers to check.
SETTINGS = {
    "linear": (nn.Rope(scaling=nn.LinearScaling(4.0)), {"factor": 4.0}),
    "llama3": (nn.Rope(5e5, scaling=LLAMA), dataclasses.asdict(LLAMA)),
    "yarn": (nn.Rope(1e6, scaling=nn.YarnScaling(4.0, 512)), {"factor": 4.0, "original_max_position_embeddings": 512}),
    "yarn, other ends": (
        nn.Rope(scaling=nn.YarnScaling(40.0, 4096, 16.0, 2.0, mscale=0.7, mscale_all_dim=0.4, truncate=False)),
        {
            "factor": 40.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0, "beta_slow": 2.0,
            "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False,
        },
    ),
    "yarn, partial": (
        nn.Rope(fraction=0.5, scaling=nn.YarnScaling(2.0, 512, attention_factor=1.5)),
        {"factor": 2.0, "original_max_position_embeddings": 512, "attention_factor": 1.5, "partial_rotary_factor": 0.5},
    ),
}  # fmt: skip


def by_the_papers(rope, head_dim):
    """The frequencies, pair by pair, as a context and its turns define them, and the factor of queries and keys."""
    d, scaling = int(head_dim * rope.fraction), rope.scaling
    found, magnitude = [], 1.0
    for i in range(d // 2):
        f = rope.base ** (-2 * i / d)
        if isinstance(scaling, nn.LinearScaling):
            f /= scaling.factor
        elif isinstance(scaling, nn.Llama3Scaling):
            wavelength, context = 2 * math.pi / f, scaling.original_max_position_embeddings
            if wavelength > context / scaling.low_freq_factor:
                f /= scaling.factor
            elif wavelength >= context / scaling.high_freq_factor:
                low, high = scaling.low_freq_factor, scaling.high_freq_factor
                smooth = (context / wavelength - low) / (high - low)
                f = (1 - smooth) * f / scaling.factor + smooth * f
        elif isinstance(scaling, nn.YarnScaling):
            s, context = scaling.factor, scaling.original_max_position_embeddings
            # The pair, as a real number, whose wavelength fits beta times into the context.
            low, high = (
                d / 2 * math.log(context / beta / (2 * math.pi), rope.base)
                for beta in (scaling.beta_fast, scaling.beta_slow)
            )
            low, high = (math.floor(low), math.ceil(high)) if scaling.truncate else (low, high)
            low, high = max(low, 0), min(high, d - 1)
            interpolated = min(max((i - low) / (high - low), 0), 1)
            f = interpolated * f / s + (1 - interpolated) * f
            temperature = [0.1 * m * math.log(s) + 1 for m in (scaling.mscale, scaling.mscale_all_dim)]
            magnitude = scaling.attention_factor or temperature[0] / temperature[1]
        found.append(f)
    return found, magnitude


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("head_dim", [8, 128])
def test_frequencies_are_those_of_the_papers(name, head_dim):
    rope, _ = SETTINGS[name]
    frequencies, magnitude = by_the_papers(rope, head_dim)
    np.testing.assert_allclose(rope.frequencies(head_dim), frequencies, rtol=1e-12)
    np.testing.assert_allclose(rope.magnitude(), magnitude, rtol=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_frequencies_are_those_of_transformers(name):
    utilities = pytest.importorskip("transformers.modeling_rope_utils")
    rope, settings = SETTINGS[name]
    kind = name.partition(",")[0]
    config = SimpleNamespace(
        head_dim=64, hidden_size=256, num_attention_heads=4, standardize_rope_params=lambda: None,
        rope_parameters={"rope_theta": rope.base, **settings},
    )  # fmt: skip
    frequencies, magnitude = utilities.ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    np.testing.assert_allclose(rope.frequencies(64), frequencies.numpy(), rtol=2e-6)
    np.testing.assert_allclose(rope.magnitude(), magnitude, rtol=1e-12)


def test_attention_turns_queries_and_keys_as_the_op_does():
    rope = nn.Rope(500.0, interleaved=True, fraction=0.5, scaling=nn.YarnScaling(4.0, 64))
    layer, x = nn.MultiHeadAttention(2, positions=rope), jax.random.normal(KEY, (2, 5, 16))
    params, _ = layer.init(KEY, x)
    q, k, v = (ops.linear(x, params[n]["w"]).reshape(2, 5, 2, 8) for n in "qkv")
    frequencies, magnitude = by_the_papers(rope, 8)
    q, k = (ops.rope(z, frequencies=tuple(frequencies), interleaved=True, scale=magnitude) for z in (q, k))
    np.testing.assert_array_equal(q[..., 4:], (x @ params["q"]["w"]).reshape(2, 5, 2, 8)[..., 4:])
    expected = ops.linear(ops.attention(q, k, v).reshape(2, 5, 16), params["o"]["w"])
    np.testing.assert_allclose(layer.apply(params, (), x)[0], expected, atol=1e-5)


def test_rope_by_name_is_rope_as_it_is_made():
    x = jax.random.normal(KEY, (2, 5, 16))
    by_name, made = (nn.MultiHeadAttention(2, positions=positions) for positions in ("rope", nn.Rope()))
    params, _ = by_name.init(KEY, x)
    np.testing.assert_array_equal(by_name.apply(params, (), x)[0], made.apply(params, (), x)[0])


def test_decoding_turns_as_the_full_pass_does():
    rope = nn.Rope(500.0, fraction=0.5, scaling=nn.Llama3Scaling(8.0, 1.0, 4.0, 16))
    model = nn.models.gpt(7, context=16, layers=2, heads=2, width=16, positions=rope)
    tokens = jax.random.randint(KEY, (1, 3), 0, 7)
    params, state = initialised(model, tokens)
    new = nn.generate(model, params, state, tokens, 6, temperature=0)
    whole = jnp.concatenate([tokens, new], 1)
    logits, _ = model.apply(params, state, whole[:, :-1])
    np.testing.assert_array_equal(jnp.argmax(logits[:, 2:], -1), new)


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.TransformerBlock(4, positions="rope", base=5e5), ["base", "positions=nn.Rope(base=500000.0)"]),
        (lambda: nn.TransformerBlock(4, postions="rope"), ["'postions'", "did you mean 'positions'"]),
        (lambda: nn.Rope(base=0), ["base is 0", "above 1"]),
        (lambda: nn.Rope(fraction=1.5), ["fraction is 1.5", "(0, 1]"]),
        (lambda: nn.Rope(interleaved=2), ["interleaved is 2"]),
        (lambda: nn.Rope(scaling="yarn"), ["'yarn'", "YarnScaling"]),
        (lambda: nn.LinearScaling(-1.0), ["LinearScaling: factor is -1.0", "positive"]),
        (lambda: nn.Llama3Scaling(low_freq_factor=4.0), ["low_freq_factor is 4.0", "less than"]),
        (lambda: nn.YarnScaling(2.0, 512, beta_fast=0.5), ["beta_slow is 1.0", "more than beta_fast"]),
        (lambda: nn.YarnScaling(2.0, 512, mscale_all_dim=-1.0), ["mscale_all_dim is -1.0", "from 0 on"]),
        (lambda: nn.MultiHeadAttention(4, positions=5), ["positions is 5", "nn.Rope(...)"]),
        (
            lambda: nn.MultiHeadAttention(2, positions=nn.Rope(fraction=0.4)).init(KEY, jnp.ones((2, 5, 16))),
            ["head_dim is 8", "fraction=0.4", "3 features", "even"],
        ),
        (lambda: nn.models.gpt(7, positions="rotary"), ["'rotary'", "nn.Rope(...)"]),
        (lambda: ops.rope(jnp.ones((2, 1, 4)), frequencies=(1.0, 1.0, 1.0)), ["3 of them", "1 to 2 numbers"]),
        (lambda: ops.rope(jnp.ones((2, 1, 4)), frequencies=(1.0, None)), ["entry of frequencies", "None"]),
        (lambda: ops.rope(jnp.ones((2, 1, 4)), scale=jnp.inf), ["scale is inf"]),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)
