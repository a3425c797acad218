"""Every layer against PyTorch's: values, gradients and state, on its random weights moved over by dlfn.weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, weights
from helpers import initialised, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch = pytest.importorskip("torch")
F = torch.nn
close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-11)

ROW, SERIES, IMAGE, VOLUME = (6, 4), (3, 7, 4), (3, 6, 7, 4), (2, 4, 5, 4, 4)

# Name: the layer, the shape of its input, PyTorch's module, and whether that has channels before space.
LAYERS = {
    "Linear": (nn.Linear(3), (2, 6, 4), lambda: F.Linear(4, 3), False),
    "Linear, no bias": (nn.Linear(3, bias=False), ROW, lambda: F.Linear(4, 3, bias=False), False),

    "PReLU": (nn.PReLU(), ROW, lambda: F.PReLU(), False),
    "PReLU, per channel": (nn.PReLU(per_channel=True), IMAGE, lambda: F.PReLU(4), True),
    "GLU": (nn.GLU(), ROW, lambda: F.GLU(), False),
    "Conv1d": (nn.Conv(5, (3,), strides=2, padding=1), SERIES, lambda: F.Conv1d(4, 5, 3, 2, 1), True),
    "Conv2d": (
        nn.Conv(6, (3, 2), padding=((1, 1), (2, 2)), dilation=(2, 1), groups=2), IMAGE,
        lambda: F.Conv2d(4, 6, (3, 2), padding=(1, 2), dilation=(2, 1), groups=2), True,
    ),
    "Conv2d, same": (
        nn.Conv(5, (3, 3), padding="SAME", bias=False), IMAGE,
        lambda: F.Conv2d(4, 5, 3, padding="same", bias=False), True,
    ),
    "Conv3d": (nn.Conv(3, (2, 3, 2)), VOLUME, lambda: F.Conv3d(4, 3, (2, 3, 2)), True),
    "depthwise": (
        nn.DepthwiseConv((3, 3), multiplier=2, padding=1), IMAGE, lambda: F.Conv2d(4, 8, 3, padding=1, groups=4), True,
    ),
    "ConvTranspose1d": (nn.ConvTranspose(3, (3,), strides=2), SERIES, lambda: F.ConvTranspose1d(4, 3, 3, 2), True),
    "ConvTranspose3d": (
        nn.ConvTranspose(4, (2, 3, 2), strides=2, groups=2), VOLUME,
        lambda: F.ConvTranspose3d(4, 4, (2, 3, 2), 2, groups=2), True,
    ),
    "ConvTranspose2d": (
        nn.ConvTranspose(3, (4, 4), strides=2, padding=1, output_padding=1), IMAGE,
        lambda: F.ConvTranspose2d(4, 3, 4, 2, 1, output_padding=1), True,
    ),
    "LayerNorm": (nn.LayerNorm(), ROW, lambda: F.LayerNorm(4), False),
    "LayerNorm, two axes": (nn.LayerNorm(axes=2, eps=1e-3), SERIES, lambda: F.LayerNorm((7, 4), eps=1e-3), False),
    "LayerNorm, no bias": (nn.LayerNorm(bias=False), ROW, lambda: F.LayerNorm(4, bias=False), False),
    "RMSNorm": (nn.RMSNorm(), ROW, lambda: F.RMSNorm(4, eps=1e-6), False),
    "InstanceNorm1d": (nn.InstanceNorm(), SERIES, lambda: F.InstanceNorm1d(4, affine=True), True),
    "InstanceNorm2d": (nn.InstanceNorm(scale=False, bias=False), IMAGE, lambda: F.InstanceNorm2d(4), True),
    "GroupNorm": (nn.GroupNorm(2), IMAGE, lambda: F.GroupNorm(2, 4), True),
    "GroupNorm, no space": (nn.GroupNorm(2), ROW, lambda: F.GroupNorm(2, 4), True),
    "BatchNorm1d": (nn.BatchNorm(), ROW, lambda: F.BatchNorm1d(4), True),
    "BatchNorm3d": (nn.BatchNorm(), VOLUME, lambda: F.BatchNorm3d(4), True),
    "BatchNorm2d": (nn.BatchNorm(0.3, 1e-3), IMAGE, lambda: F.BatchNorm2d(4, 1e-3, momentum=0.3), True),
    "MaxPool1d": (nn.MaxPool((3,), strides=2), SERIES, lambda: F.MaxPool1d(3, 2), True),
    "AvgPool3d": (nn.AvgPool((2, 2, 2), strides=1), VOLUME, lambda: F.AvgPool3d(2, 1), True),
    "MaxPool2d": (nn.MaxPool(3, strides=2, padding=1), IMAGE, lambda: F.MaxPool2d(3, 2, 1), True),
    "AvgPool2d": (
        nn.AvgPool((3, 2), padding=1, count_padding=False), IMAGE,
        lambda: F.AvgPool2d((3, 2), padding=1, count_include_pad=False), True,
    ),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool((4, 3)), IMAGE, lambda: F.AdaptiveAvgPool2d((4, 3)), True),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool((4, 3)), IMAGE, lambda: F.AdaptiveMaxPool2d((4, 3)), True),
    "GlobalMaxPool": (
        nn.GlobalMaxPool(), IMAGE, lambda: F.Sequential(F.AdaptiveMaxPool2d(1), F.Flatten()), True,
    ),
    "RNN": (nn.RNN(5), SERIES, lambda: _Values(F.RNN(4, 5, batch_first=True)), False),
    "RNN, relu": (
        nn.RNN(5, activation="relu"), SERIES,
        lambda: _Values(F.RNN(4, 5, nonlinearity="relu", batch_first=True)), False,
    ),
    "LSTM": (nn.LSTM(5), SERIES, lambda: _Values(F.LSTM(4, 5, batch_first=True)), False),
    "LSTM, projected both ways": (
        nn.Stacked(*2 * [nn.Bidirectional(nn.Recurrent(nn.ProjectedLSTMCell(5, projection=3)))]), SERIES,
        lambda: _Values(F.LSTM(4, 5, 2, batch_first=True, bidirectional=True, proj_size=3)), False,
    ),
    "GRU": (nn.GRU(5, reset_after=True), SERIES, lambda: _Values(F.GRU(4, 5, batch_first=True)), False),
    "LSTM, both ways": (
        nn.Bidirectional(nn.LSTM(5)), SERIES,
        lambda: _Values(F.LSTM(4, 5, batch_first=True, bidirectional=True)), False,
    ),
    "GRU, stacked both ways": (
        nn.Stacked(*2 * [nn.Bidirectional(nn.GRU(3, reset_after=True))]), SERIES,
        lambda: _Values(F.GRU(4, 3, 2, batch_first=True, bidirectional=True)), False,
    ),
    "MultiheadAttention": (
        nn.MultiHeadAttention(2), SERIES, lambda: _SelfAttention(F.MultiheadAttention(4, 2, batch_first=True)), False,
    ),
    "causal attention": (
        nn.MultiHeadAttention(2, causal=True), SERIES,
        lambda: _SelfAttention(F.MultiheadAttention(4, 2, batch_first=True), causal=True), False,
    ),
    "a convolutional network": (
        nn.Serial(nn.Conv(6, (3, 3)), nn.BatchNorm(), nn.SiLU(), nn.MaxPool(2), nn.GlobalAvgPool(), nn.Linear(3)),
        IMAGE,
        lambda: F.Sequential(
            F.Conv2d(4, 6, 3), F.BatchNorm2d(6), F.SiLU(), F.MaxPool2d(2),
            F.Sequential(F.AdaptiveAvgPool2d(1), F.Flatten()), F.Linear(6, 3),
        ),
        True,
    ),
}  # fmt: skip
PLAIN = {  # activations without parameters
    "Sigmoid": F.Sigmoid, "Tanh": F.Tanh, "ReLU": F.ReLU, "SiLU": F.SiLU, "GELU": F.GELU, "ELU": F.ELU, "SELU": F.SELU,
    "CELU": F.CELU, "Mish": F.Mish, "HardSwish": F.Hardswish, "HardTanh": F.Hardtanh,
    "HardSigmoid": lambda: _HardSigmoid(), "Softsign": F.Softsign, "LogSigmoid": F.LogSigmoid,
    "ReLU6": F.ReLU6, "LeakyReLU": F.LeakyReLU,
    "Softplus": lambda: F.Softplus(threshold=1000), "Softmax": lambda: F.Softmax(-1),
    "LogSoftmax": lambda: F.LogSoftmax(-1),
}  # fmt: skip
LAYERS |= {name: (getattr(nn, name)(), ROW, make, False) for name, make in PLAIN.items()}


class _HardSigmoid(F.Module):
    """The slope of torch.nn.Hardsigmoid is 1/6 rounded to float32, for float64 too."""

    def forward(self, x):
        return torch.clamp(x + 3, 0, 6) / 6


class _Values(F.Module):
    """The outputs of a recurrent module, without its states."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)[0]


class _SelfAttention(_Values):
    def __init__(self, module, causal=False):
        super().__init__(module)
        self.causal = causal

    def forward(self, x):
        mask = F.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if self.causal else None
        return self.module(x, x, x, attn_mask=mask, need_weights=False)[0]


def arrays(module, of=lambda tensor: tensor):
    """A module's tensors by name, or what ``of`` makes of each."""
    found = {name.removeprefix("module."): of(tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def gradient(tensor):
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def moved(x, channels_first):
    return np.moveaxis(np.asarray(x), -1, 1) if channels_first else np.asarray(x)


@functools.partial(jax.jit, static_argnames=("layer", "train"))
def pulled_back(layer, params, state, x, dy, train):
    """A layer's output, the gradients in its parameters and its input, and its new state."""
    y, back, new_state = jax.vjp(lambda params, x: layer.apply(params, state, x, train=train), params, x, has_aux=True)
    return y, back(dy), new_state


# What a larger one of them contains.
PARTS = {"Linear", "BatchNorm1d", "BatchNorm3d", "LSTM", "GRU", "MaxPool1d", "AvgPool3d"}
# Activations are one layer, and the sweeps compare their ops with PyTorch's.
FEW = LAYERS.keys() - PLAIN.keys() - PARTS | {"GELU", "LeakyReLU", "Softmax"}


@pytest.mark.parametrize("name", ordinarily(FEW, LAYERS))
def test_layers_are_those_of_pytorch(name, x64):
    """Over three steps of training, and then inference; one step of training of what has no state to differ by."""
    layer, shape, make, channels_first = LAYERS[name]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    theirs = make().double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    like = jax.eval_shape(layer.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float64))
    names = weights.torch_names(layer)
    params, state = weights.import_state(arrays(theirs), *like, names)
    for train in (True, True, True, False) if jax.tree.leaves(state) else (True,):
        x = jnp.asarray(rng.normal(size=shape))
        theirs.train(train)
        inputs = torch.tensor(moved(x, channels_first).copy(), requires_grad=True)
        theirs.zero_grad()
        outputs = theirs(inputs)
        dy = rng.normal(size=outputs.shape)
        outputs.backward(torch.tensor(dy))
        first = channels_first and outputs.ndim == len(shape)
        y, (dparams, dx), new_state = pulled_back(
            layer, params, state, x, np.moveaxis(dy, 1, -1) if first else dy, train
        )
        close(moved(y, first), outputs.detach().numpy())
        close(moved(dx, channels_first), inputs.grad.numpy())
        theirs_by_name = arrays(theirs, gradient)
        expected, _ = weights.import_state(theirs_by_name, *like, names, gradients=True)
        jax.tree.map(close, dparams, expected)
        for exported, array in weights.export_state(dparams, new_state, names, gradients=True).items():
            if "running_" not in exported:
                close(array, theirs_by_name[exported])
        _, expected = weights.import_state(arrays(theirs), *like, names)
        jax.tree.map(close, new_state, expected)
        assert train or jax.tree.all(jax.tree.map(jnp.array_equal, new_state, state))
        state = new_state


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_transformer_block_is_that_of_pytorch(norm, x64):
    theirs = F.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm == "pre"
    ).double()
    ours = nn.TransformerBlock(2, norm=norm)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)))
    norms = ("attention/norm", "mlp/norm") if norm == "pre" else ("attention_norm", "mlp_norm")
    names = {
        **weights.under(weights.pytorch.multi_head_attention(), "self_attn.", "attention/attention"),
        **weights.under(weights.pytorch.linear(), "linear1.", "mlp/mlp/up"),
        **weights.under(weights.pytorch.linear(), "linear2.", "mlp/mlp/down"),
        **weights.under(weights.pytorch.norm(), "norm1.", norms[0]),
        **weights.under(weights.pytorch.norm(), "norm2.", norms[1]),
    }
    like = ours.init(jax.random.key(0), x)
    params, _ = weights.import_state(arrays(theirs), *like, names)
    y, back = jax.vjp(lambda params, x: ours.apply(params, (), x)[0], params, x)
    inputs = torch.tensor(np.array(x), requires_grad=True)
    outputs = theirs(inputs)
    outputs.backward(torch.tensor(np.cos(np.asarray(y))))
    close(y, outputs.detach().numpy())
    dparams, dx = back(jnp.cos(y))
    close(dx, inputs.grad.numpy())
    expected, _ = weights.import_state(arrays(theirs, gradient), *like, names, gradients=True)
    jax.tree.map(close, dparams, expected)
    exported = weights.export_state(params, (), names)
    assert all(np.array_equal(exported[name], array) for name, array in arrays(theirs).items())


def test_embedding_is_that_of_pytorch(x64):
    theirs = F.Embedding(7, 4).double()
    layer, ids = nn.Embedding(7, 4), np.array([[0, 3, 3], [6, 3, 1]])
    names = weights.torch_names(layer)
    like = layer.init(jax.random.key(0), jnp.asarray(ids))
    params, _ = weights.import_state(arrays(theirs), *like, names)
    y, back = jax.vjp(lambda params: layer.apply(params, (), jnp.asarray(ids))[0], params)
    outputs = theirs(torch.tensor(ids))
    outputs.backward(torch.tensor(np.cos(np.asarray(y))))
    close(y, outputs.detach().numpy())
    close(back(jnp.cos(y))[0]["table"], theirs.weight.grad.numpy())


def test_cross_attention_with_a_mask_is_that_of_pytorch(x64):
    theirs = F.MultiheadAttention(4, 2, batch_first=True).double()
    layer, rng = nn.MultiHeadAttention(2), np.random.default_rng(0)
    x, context = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 7, 4))
    padding = np.arange(7) >= np.array([7, 4, 2])[:, None]
    given = jnp.asarray(x), jnp.asarray(context), jnp.asarray(~padding)[:, None, None, :]
    params, _ = weights.import_state(arrays(theirs), *layer.init(jax.random.key(0), given), weights.torch_names(layer))
    y, back = jax.vjp(lambda x, context: layer.apply(params, (), (x, context, given[2]))[0], *given[:2])
    queries, keys = (torch.tensor(a, requires_grad=True) for a in (x, context))
    outputs, _ = theirs(queries, keys, keys, key_padding_mask=torch.tensor(padding), need_weights=False)
    outputs.backward(torch.tensor(np.cos(np.asarray(y))))
    close(y, outputs.detach().numpy())
    for ours, inputs in zip(back(jnp.cos(y)), (queries, keys), strict=True):
        close(ours, inputs.grad.numpy())


def test_the_names_of_a_whole_transformer():
    block = nn.TransformerBlock(2, causal=True)
    model = nn.Serial(embed=nn.Embedding(11, 8), at=nn.LearnedPositions(6), h=nn.Repeat(block, 3), head=nn.Linear(11))
    params, state = initialised(model, jnp.zeros((2, 6), jnp.int32))
    names = weights.torch_names(model)
    found = weights.export_state(params, state, names)
    assert found["h.2.linear1.weight"].shape == (32, 8)
    again, _ = weights.import_state(found, params, state, names)
    jax.tree.map(np.testing.assert_array_equal, again, params)
