"""The packaged models, beside the same in PyTorch where there is one."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding

from dlfn import nn, ops, weights
from dlfn.nn import models
from dlfn.nn.models import sharding
from dlfn.nn.overview import visits
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")

with_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)
KEY, RNG = jax.random.key(0), np.random.default_rng(0)
TOKENS = RNG.integers(0, 11, (3, 7))
IMAGES = RNG.normal(size=(2, 8, 8)).astype(np.float32)


def arrays(module, of=lambda p: p):
    found = {name: of(p) for name, p in module.state_dict(keep_vars=True).items()}
    return {name: array.detach().numpy().copy() for name, array in found.items() if array is not None}


def ours(module, model, x, names):
    """Params and state from a module."""
    return weights.import_state(arrays(module), *jax.eval_shape(model.init, KEY, x), names)


def random(module):
    for parameter in module.parameters():
        parameter.detach().normal_(std=0.3)
    return module


@with_torch
@pytest.mark.parametrize("bias", [pytest.param(True, marks=pytest.mark.exhaustive), False])
def test_gpt_is_nanogpts(bias, x64):
    import torch

    import torch_models

    torch.manual_seed(0)
    theirs = random(torch_models.GPT(11, 6, layers=2, heads=2, width=8, bias=bias).double())
    names = torch_models.gpt_names(2, bias)
    model = models.gpt(11, context=6, layers=2, heads=2, width=8, bias=bias)
    inputs, labels = TOKENS[:, :-1], TOKENS[:, 1:]
    params, _ = ours(theirs, model, inputs, names)
    loss = theirs.loss(torch.tensor(inputs), torch.tensor(labels))
    loss.backward()

    @jax.jit
    def run(params):
        mean = jax.value_and_grad(lambda params: model.loss(params, (), inputs, labels)[0].mean())
        return model.apply(params, (), inputs)[0], *mean(params)

    logits, value, gradient = run(params)
    close(logits, theirs(torch.tensor(inputs)).detach())
    close(value, loss.item())
    expected, _ = weights.import_state(arrays(theirs, lambda p: p.grad), params, (), names, gradients=True)
    jax.tree.map(close, gradient, expected)


@with_torch
@pytest.mark.parametrize("name", ["vit", pytest.param("resnet", marks=pytest.mark.exhaustive), "resnet, large stem"])
def test_models_of_images_are_those_of_pytorch(name, x64):
    import torch

    import torch_models

    torch.manual_seed(0)
    if name == "vit":
        theirs, names = torch_models.VisionTransformer(3, 8, 4, 2, 2, 8), torch_models.vit_names(2)
        model, x = models.vit(3, patch=4, layers=2, heads=2, width=8), IMAGES.astype(float)
    else:
        large = name != "resnet"
        theirs, names = torch_models.ResNet(3, (2, 1), 4, large), torch_models.resnet_names((2, 1))
        model = models.resnet(3, blocks=(2, 1), width=4, stem="large" if large else "small")
        x = RNG.normal(size=(2, 16, 16, 3) if large else (2, 8, 8, 3))
    theirs = random(theirs.double())
    params, state = ours(theirs, model, x, names)

    @jax.jit
    def run(params):
        y, back, after = jax.vjp(lambda params: model.apply(params, state, x, train=True), params, has_aux=True)
        return y, back(jnp.cos(y))[0], after

    y, gradient, state = run(params)
    logits = theirs(torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x))
    close(y, logits.detach())
    logits.backward(torch.cos(logits.detach()))
    expected, _ = weights.import_state(arrays(theirs, lambda p: p.grad), params, (), _learned(names), gradients=True)
    jax.tree.map(close, gradient, expected)
    jax.tree.map(close, state, weights.import_state(arrays(theirs), params, state, names)[1])


def _learned(names):
    return {name: target for name, target in names.items() if not str(name).endswith(("running_mean", "running_var"))}


@with_torch
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("gpt", ()), ("vae", (6, 16, 8, 2)), pytest.param("lstm", (11, 4, 8, 8), marks=pytest.mark.exhaustive),
     # Those of the configurations.
     pytest.param("vae", (64, 64, 256, 8), marks=pytest.mark.exhaustive),
     pytest.param("lstm", (65, 32, 64, 256), marks=pytest.mark.exhaustive)],
)  # fmt: skip
def test_training_follows_pytorch(name, sizes, optimised):
    """Losses of 200 steps from the same weights on the same batches, in float32."""
    import torch

    import torch_models

    torch.manual_seed(0)
    steps, optimizer = 200, optax.adam(1e-3)
    vocabulary, batch, context, width = sizes if name == "lstm" else (11, 4, 8, 8)
    tokens = RNG.integers(0, vocabulary, (20, batch, context + 1))
    batches = tokens[..., :-1], tokens[..., 1:]
    if name == "gpt":
        theirs, names = torch_models.GPT(11, 8, layers=1, heads=2, width=8), torch_models.gpt_names(1)
        model = models.gpt(11, context=8, layers=1, heads=2, width=8)
        matrices = functools.partial(jax.tree.map, lambda p: p.ndim >= 2)
        optimizer, fitted = optax.adamw(1e-3, 0.9, 0.99, weight_decay=0.1, mask=matrices), theirs.optimizer()
    elif name == "lstm":
        theirs, names, model = (
            torch_models.TextLSTM(vocabulary, width, 2),
            torch_models.lstm_names(2),
            models.lstm(vocabulary, width=width, layers=2),
        )
    else:
        examples, pixels, width, latent = sizes
        theirs, names = torch_models.VAE(pixels, width, latent), torch_models.vae_names()
        model, noise = models.vae(widths=(width,), latent=latent), RNG.normal(size=(20, examples, latent))
        batches = RNG.uniform(size=(20, examples, pixels)).astype(np.float32), noise.astype(np.float32)
    if name != "gpt":
        fitted = torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], 1e-3)

    def loss(params, x, y):
        if name != "vae":
            return model.loss(params, (), x, y, train=True, reduction="mean")[0]
        mean, log_variance = model.encode(params, x)
        logits = model.decode(params, mean + jnp.exp(log_variance / 2) * y)
        return ops.binary_cross_entropy(logits, x, reduction="sum") / len(x) + ops.normal_kl(mean, log_variance)

    def step(carry, index):
        params, moments = carry
        value, gradient = jax.value_and_grad(loss)(params, *(jnp.asarray(b)[index % 20] for b in batches))
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    params, _ = ours(theirs, model, batches[0][0], names)
    params = jax.tree.map(jnp.asarray, params)
    _, losses = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps)))(params)
    expected = []
    for index in range(steps):
        value = theirs.loss(*(torch.tensor(b[index % 20]) for b in batches))
        fitted.zero_grad()
        value.backward()
        fitted.step()
        expected.append(value.item())
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert expected[-1] < expected[0]


SMALL = {
    "cnn": (functools.partial(models.cnn, 3, channels=(2, 4), convolutions=2, hidden=5, keep_prob=0.9), IMAGES),
    "resnet": (functools.partial(models.resnet, 3, blocks=(1, 1), width=2, bottleneck=True), IMAGES),
    "vit": (functools.partial(models.vit, 3, layers=2, heads=2, width=8, pool="mean", keep_prob=0.9), IMAGES),
    "gpt": (
        functools.partial(
            models.gpt, 11, context=6, layers=2, heads=2, width=8, keep_prob=0.9, tied=False, positions="rope",
            norm="rms_norm", activation="swiglu",
        ),
        TOKENS,
    ),
    "llama": (
        functools.partial(models.llama, 11, layers=2, heads=4, kv_heads=2, head_dim=4, width=8, qk_norm=True, window=3),
        TOKENS,
    ),
    "bert": (
        functools.partial(models.bert, 11, context=8, layers=2, heads=2, width=8, keep_prob=0.9), TOKENS,
    ),
    "lstm": (functools.partial(models.lstm, 11, width=4, layers=2, keep_prob=0.9, embedding=3), TOKENS),
    "vae": (functools.partial(models.vae, widths=(4, 5), latent=2), IMAGES),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_the_batch_is_the_first_axis_and_the_summary_counts_all(name):
    make, x = SMALL[name]
    model = make()
    params, state = jax.eval_shape(model.init, KEY, x)
    y, after = jax.eval_shape(functools.partial(model.apply, key=KEY, train=True), params, state, x)
    assert all(leaf.shape[0] == len(x) for leaf in jax.tree.leaves(y))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    total = nn.summary(model, x).splitlines()[-1].split()
    assert total[1] == f"{nn.count_parameters(params):,}"
    assert hash(model) == hash(make())


@pytest.mark.parametrize("name", ["resnet", "vit", "gpt"])
def test_every_block_is_checkpointed(name):
    make, x = SMALL[name]
    found = [visit.layer for visit in visits(make(checkpoint=True), x) if isinstance(visit.layer, nn.Checkpointed)]
    assert len(found) == 2


def test_gpt_starts_as_gpt2_does():
    params, _ = models.gpt(128, context=128, layers=2, heads=4, width=128).init(KEY, TOKENS)
    block = params["body"]["blocks"][0]
    for w, std in (
        (params["embedding"]["table"], 0.02),
        (params["body"]["positions"]["table"], 0.02),
        (block["attention"]["attention"]["q"]["w"], 0.02),
        (block["mlp"]["mlp"]["up"]["w"], 0.02),
        (block["attention"]["attention"]["o"]["w"], 0.01),
        (block["mlp"]["mlp"]["down"]["w"], 0.01),
    ):
        np.testing.assert_allclose(w.std(), std, rtol=0.05)


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_losses_of_tokens_are_those_of_the_logits(name):
    model = SMALL[name][0]()
    inputs, labels = TOKENS[:, :-1], TOKENS[:, 1:]
    params, state = initialised(model, inputs)

    @jax.jit
    def both(params):
        logits, _ = model.apply(params, state, inputs)
        return ops.softmax_cross_entropy(logits, labels, reduction="none"), model.loss(params, state, inputs, labels)[0]

    expected, losses = both(params)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_codes_are_drawn_in_training_alone():
    model = models.vae(widths=(4,), latent=2)
    params, _ = initialised(model, IMAGES)
    (logits, mean, log_variance), _ = model.apply(params, (), IMAGES)
    np.testing.assert_allclose(logits.reshape(2, -1), model.decode(params, mean), rtol=1e-6)
    drawn = model.apply(params, (), IMAGES, key=KEY, train=True)[0].logits
    noise = jax.random.normal(KEY, mean.shape)
    z = mean + jnp.exp(log_variance / 2) * noise
    np.testing.assert_allclose(drawn.reshape(2, -1), model.decode(params, z), rtol=1e-5)


def test_parameters_over_a_mesh_give_the_same_losses():
    model = models.gpt(16, context=8, layers=1, heads=2, width=8)
    x, y = TOKENS[:, :-1] % 16, TOKENS[:, 1:]
    params, _ = initialised(model, x)
    mesh = jax.make_mesh((4, 2), ("fsdp", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    specs = sharding.partition_specs(params, mesh)
    attention = specs["body"]["blocks"][0]["attention"]["attention"]
    assert tuple(attention["q"]["w"]) == ("fsdp", "model")
    assert tuple(attention["o"]["w"]) == ("model", "fsdp")
    assert tuple(specs["embedding"]["table"]) == ("model", "fsdp")
    run = jax.jit(lambda params: model.loss(params, (), x, y)[0])
    divided = jax.tree.map(lambda p, spec: jax.device_put(p, NamedSharding(mesh, spec)), params, specs)
    np.testing.assert_allclose(run(divided), run(params), rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_every_matrix_of_a_packaged_model_has_a_rule(name):
    make, x = SMALL[name]
    params, _ = jax.eval_shape(make().init, KEY, x)
    mesh = jax.sharding.AbstractMesh((1, 1), ("fsdp", "model"))
    for path, spec in jax.tree_util.tree_leaves_with_path(sharding.partition_specs(params, mesh)):
        leaf = functools.reduce(
            lambda tree, entry: tree[getattr(entry, "key", getattr(entry, "idx", None))], path, params
        )
        assert leaf.ndim < 2 or "fsdp" in spec, jax.tree_util.keystr(path)
    stacked, _ = jax.eval_shape(nn.Repeat(nn.FeedForward(), 3).init, KEY, jnp.zeros((1, 8)))
    spec = sharding.partition_specs(stacked, jax.sharding.AbstractMesh((3, 2), ("fsdp", "model")))["up"]["w"]
    assert tuple(spec) == (None, None, "model")


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: models.gpt(5, positions="rotary"), ["'rotary'", "'learned', 'rope'"]),
        (lambda: models.gpt(5, norm="batch_norm"), ["'batch_norm'", "'rms_norm'"]),
        (lambda: models.resnet(5, stem="tiny"), ["'tiny'", "'small' or 'large'"]),
        (lambda: models.cnn(5, convolutions=0), ["cnn: convolutions is 0", "1 or more"]),
        (lambda: models.bert(5).init(KEY, (TOKENS, TOKENS[:, :1])), ["types are [3, 1]", "tokens [3, 7]"]),
        (lambda: models.bert(5, types=0).init(KEY, (TOKENS, TOKENS)), ["has no types"]),
        (lambda: models.bert(5, pooler=False).pooled({}, IMAGES), ["has no pooler"]),
        (lambda: models.vit(5, pool="max"), ["'max'", "'token' or 'mean'"]),
        (lambda: models.vae(latent=0), ["latent is 0"]),
        (lambda: models.vae(activation="gelou"), ["'gelou'", "'gelu'"]),
        (lambda: models.cnn(5).init(KEY, jnp.ones((8, 8))), ["images", "shape (8, 8)", "x[None]"]),
        (lambda: _another_size(), ["4 patches", "3 × 3"]),
        (lambda: _without_key(), ["VAE", "key"]),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)


def _another_size():
    model = models.vit(5, patch=4, layers=1, heads=2, width=8)
    model.apply(*initialised(model, IMAGES), jnp.ones((1, 12, 12)))


def _without_key():
    model = models.vae(widths=(4,), latent=2)
    model.apply(*initialised(model, IMAGES), IMAGES, train=True)
