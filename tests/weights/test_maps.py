"""Maps of other libraries' models: outputs and gradients are theirs, as scripts/pretrained_references.py records them,
and a folder is written back as it was."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import InputError, weights
from dlfn.weights import maps
from made_up import IMAGES, TOKENS, made_up

pytestmark = pytest.mark.usefixtures("quick_compilation")

REFERENCES = json.loads(Path(__file__).with_name("references.json").read_text())
# A large one, and others of a kind that is there.
MORE = {"ResNet-18", "BERT, tanh form", "Llama", "Llama, linear", "Qwen2"}
CASES = [pytest.param(name, marks=pytest.mark.exhaustive) if name in MORE else name for name in REFERENCES]


def arrays_of(reference):
    shapes = reference["arrays"].items()
    return {
        name: np.array(3) if name.endswith("num_batches_tracked") else made_up(name, tuple(shape))
        for name, shape in shapes
    }


def written(folder, reference, arrays=None, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(reference["config"] | config, indent=3))
    weights.save_safetensors(folder / "model.safetensors", arrays or arrays_of(reference), {"format": "pt"})
    return folder


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_the_library(name, tmp_path, x64):
    reference = REFERENCES[name]
    folder = written(tmp_path / "model", reference)
    loaded = weights.from_pretrained(folder)
    model, params = loaded
    inputs = IMAGES if "architecture" in reference["config"] or name == "ViT" else TOKENS

    @jax.jit
    def run(params):
        y, back, _ = jax.vjp(lambda p: model.apply(p, loaded.state, jnp.asarray(inputs)), params, has_aux=True)
        return y, back(jnp.asarray(made_up("cotangent", y.shape)))[0]

    y, gradient = run(params)
    expected = np.array(reference["outputs"])
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    found = weights.export_state(gradient, loaded.state, loaded.names, gradients=True)
    sums = {n: (found[n] * made_up(f"gradient of {n}", found[n].shape)).sum() for n in reference["gradients"]}
    largest = max(map(abs, reference["gradients"].values()))
    for name, total in reference["gradients"].items():
        assert abs(sums[name] - total) < 1e-12 * largest, name

    weights.save_pretrained(tmp_path / "back", loaded)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "back" / file).read_bytes() == (folder / file).read_bytes(), file
    trained = jax.tree.map(lambda p: p + 1, params)
    weights.save_pretrained(tmp_path / "back", loaded, trained)
    again = weights.from_pretrained(tmp_path / "back").params
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, trained))


def test_several_files_are_read_and_written_as_they_are(tmp_path):
    reference = REFERENCES["Qwen2"]
    arrays = {name: array.astype(jnp.bfloat16) for name, array in arrays_of(reference).items()}
    folder = written(tmp_path / "model", reference, arrays)
    (folder / "model.safetensors").unlink()
    names, index = list(arrays), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        weights.save_safetensors(folder / file, {name: arrays[name] for name in part}, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    size = sum(array.nbytes for array in arrays.values())
    whole = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(whole, indent=2) + "\n")
    loaded = weights.from_pretrained(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {jnp.dtype(jnp.bfloat16)}
    weights.save_pretrained(tmp_path / "back", loaded)
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "back").iterdir())
    for file in files:
        assert (tmp_path / "back" / file).read_bytes() == (folder / file).read_bytes(), file
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="model-00002-of-00002"):
        weights.from_pretrained(folder)


def test_buffers_and_a_second_head_are_written_back(tmp_path, x64):
    reference = REFERENCES["GPT-2"]
    arrays = {name.removeprefix("transformer."): array for name, array in arrays_of(reference).items()}
    mask = np.tril(np.ones((1, 1, 16, 16), bool))
    arrays |= {"h.0.attn.bias": mask, "h.1.attn.bias": mask, "lm_head.weight": arrays["wte.weight"]}
    folder = written(tmp_path / "model", reference, arrays)
    weights.save_pretrained(tmp_path / "back", weights.from_pretrained(folder))
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


BAD = {
    "another model": ("Llama", {"model_type": "mamba"}, "model_type = 'mamba', and known are 'bert', 'gpt2', 'llama'"),
    "another head": ("BERT", {"architectures": ["BertForMaskedLM"]}, "known for model_type = 'bert' is BertModel"),
    "activation": ("BERT", {"hidden_act": "gleu"}, "hidden_act = 'gleu', and known are 'gelu', 'gelu_new'"),
    "rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "longrope"}},
        "rope_type = 'longrope', and known are 'default'",
    ),
    "rope's numbers": ("Llama", {"rope_parameters": {"rope_type": "linear"}}, "config.rope_parameters has no 'factor'"),
    "layers": (
        "Qwen2",
        {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
        "layer_types has",
    ),
    "width": ("Llama", {"hidden_size": "8"}, "hidden_size = '8', and must be a positive integer"),
    "a misspelt key": ("Llama", {"hidden_size": None}, "hidden_size = None, and must be a positive integer"),
    "heads": ("Llama", {"num_attention_heads": True}, "num_attention_heads = True, and must be a positive integer"),
    "positions": ("BERT", {"position_embedding_type": "relative_key"}, "'relative_key', and known are 'absolute'"),
    "timm": (
        "timm's ViT",
        {"architecture": "vit_giant_patch14_224"},
        "known are vit_SIZE_patchP_N with SIZE one of tiny",
    ),
    "timm's options": ("timm's ViT", {"model_args": {"class_token": False}}, "'class_token', and known are 'img_size'"),
    "another width": ("Llama", {"intermediate_size": 16}, "becomes"),
    "more layers": ("Llama", {"num_hidden_layers": 3}, "missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_another_model_or_setting_is_refused(case, tmp_path, refused):
    name, config, message = BAD[case]
    folder = written(tmp_path / "model", REFERENCES[name], **config)
    with pytest.raises(InputError) as caught:
        weights.from_pretrained(folder)
    assert message in str(caught.value)


def test_folders_that_hold_no_model(tmp_path, refused):
    refused(lambda: weights.from_pretrained(tmp_path / "no"), ["is no folder"])
    refused(lambda: weights.from_pretrained(tmp_path), ["there is no config.json"])
    for text, message in (("{", "is no JSON"), ("[1]", "must hold a dictionary"), ("{}", "neither model_type")):
        (tmp_path / "config.json").write_text(text)
        weights.save_safetensors(tmp_path / "model.safetensors", {"w": np.ones(2)})
        refused(lambda: weights.from_pretrained(tmp_path), [message])
    refused(lambda: maps.of_config("llama"), ["must be a dictionary"])
