"""Functions as files: for jax alone, and as ONNX."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, ops
from dlfn.core import InputError
from dlfn.weights import export_onnx, export_program

TOKENS, IMAGES = np.arange(12, dtype=np.int32).reshape(2, 6) % 11, np.linspace(0, 1, 2 * 8 * 8).reshape(2, 8, 8)
# The packaged models by size; those of tokens, then those of images.
MODELS = {
    "gpt": (nn.models.gpt(11, context=8, layers=1, heads=2, width=8), TOKENS),
    "llama": (nn.models.llama(11, layers=1, heads=2, width=8), TOKENS),
    "lstm": (nn.models.lstm(11, width=8, layers=1), TOKENS),
    "bert": (nn.models.bert(11, context=8, layers=1, heads=2, width=8), TOKENS),
    "mlp": (nn.models.mlp((8,), 3), IMAGES),
    "cnn": (nn.models.cnn(3, channels=(4, 8), hidden=16), IMAGES),
    "resnet": (nn.models.resnet(3, blocks=(1, 1), width=8), IMAGES),
    "vit": (nn.models.vit(3, patch=4, layers=1, heads=2, width=8), IMAGES),
    "vae": (nn.models.vae(widths=(8,), latent=2), IMAGES),
}


def inference(name):
    model, x = MODELS[name]
    x = jnp.asarray(x, jnp.int32 if x.dtype == np.int32 else jnp.float32)
    params, state = model.init(jax.random.key(0), x)
    return lambda x: model.apply(params, state, x)[0], x


@pytest.mark.parametrize("name", MODELS)
def test_onnx_computes_what_the_model_does(tmp_path, name):
    pytest.importorskip("jax2onnx", reason="jax2onnx is not installed: pip install -e '.[onnx]'")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[onnx]'")
    f, x = inference(name)
    session = runtime.InferenceSession(export_onnx(tmp_path / "model.onnx", f, x))
    outputs = session.run(None, {session.get_inputs()[0].name: np.asarray(x)})
    for output, expected in zip(outputs, jax.tree.leaves(f(x)), strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-6)


def test_without_jax2onnx_an_onnx_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"needs jax2onnx: pip install 'dlfn\[onnx\]'"):
        export_onnx(tmp_path / "model.onnx", ops.relu, jnp.ones(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("f", "x", "said"),
    [
        (ops.relu, jnp.float32(1), "an input is a scalar"),
        (lambda x: x.reshape(2, -1), jnp.ones((2, 3)), "cannot be computed for a batch of any size"),
    ],
)
def test_what_has_no_batch_of_any_size_is_refused(tmp_path, f, x, said):
    with pytest.raises(InputError, match=said):
        export_program(tmp_path / "program", f, x)
    assert not list(tmp_path.iterdir())


def test_a_program_has_a_derivative_and_takes_several_inputs(tmp_path):
    path = export_program(
        tmp_path / "program", lambda x, y: {"sum": ops.tanh(x["a"]) + y}, {"a": jnp.ones(2)}, jnp.ones(2)
    )
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    x = {"a": jnp.array([0.0, 1.0, 2.0])}
    np.testing.assert_allclose(program.call(x, jnp.zeros(3))["sum"], np.tanh([0, 1, 2]), rtol=1e-6)
    gradient = jax.grad(lambda x: program.call(x, jnp.zeros(3))["sum"].sum())(x)["a"]
    np.testing.assert_allclose(gradient, 1 - np.tanh([0, 1, 2]) ** 2, rtol=1e-5)
