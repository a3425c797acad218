#!/usr/bin/env python
"""Writes tests/weights/references.json: what transformers, timm and torchvision make of small models with made-up
weights, in float64, and the gradients, for the tests of dlfn.weights.maps, which need none of the three.

    pip install transformers timm torchvision
    python scripts/pretrained_references.py

A weight is drawn by NumPy from its name and shape, so that the file holds outputs alone, and for each parameter the sum
of its gradient times such an array. Where those libraries compute in float32 whatever the weights are, they are made to
compute in float64.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file

from dlfn.weights import load_safetensors
from tests.made_up import IMAGES, TOKENS, made_up

SMALL = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = SMALL | {"vocab_size": 11, "max_position_embeddings": 16}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ROPE = {"rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
TIMM = {"depth": 2, "img_size": 8, "patch_size": 4, "embed_dim": 8, "num_heads": 2}

TRANSFORMERS = {
    "BERT": ("Bert", "Model", WORDS | NO_DROPOUT),
    "BERT, tanh form": ("Bert", "Model", WORDS | NO_DROPOUT | {"hidden_act": "gelu_new", "type_vocab_size": 3}),
    "GPT-2": ("GPT2", "LMHeadModel", {
        "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 11, "n_positions": 16,
        "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    }),
    "Llama": ("Llama", "ForCausalLM", WORDS),
    "Llama, groups": ("Llama", "ForCausalLM", WORDS | {
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "tie_word_embeddings": True,
        "attention_bias": True, "mlp_bias": True,
    }),
    "Llama 3": ("Llama", "ForCausalLM", WORDS | {
        "head_dim": 8, "rope_parameters": ROPE | {
            "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        },
    }),
    "Llama, linear": ("Llama", "ForCausalLM", WORDS | {
        "rope_parameters": {"rope_theta": 500.0, "factor": 4.0, "rope_type": "linear"},
    }),
    "Llama, YaRN": ("Llama", "ForCausalLM", WORDS | {"head_dim": 8, "rope_parameters": ROPE | {"rope_type": "yarn"}}),
    "Mistral": ("Mistral", "ForCausalLM", WORDS | {"num_key_value_heads": 1, "sliding_window": 3}),
    "Qwen2": ("Qwen2", "ForCausalLM", WORDS | {"num_key_value_heads": 1}),
    "Qwen3": ("Qwen3", "ForCausalLM", WORDS | {"num_key_value_heads": 1, "head_dim": 6}),
    "ViT": ("ViT", "ForImageClassification", SMALL | NO_DROPOUT | {"image_size": 8, "patch_size": 4, "num_labels": 3}),
}  # fmt: skip


@contextlib.contextmanager
def in_float64():
    """Makes float64 of what asks for float32."""
    kept = torch.float, torch.float32, torch.Tensor.float
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = kept


def saved(model, values):
    """The arrays of a model's file, by the names there, with these in the place of its parameters."""
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.data = value
    if not hasattr(model, "save_pretrained"):
        return {name: array.detach().numpy().copy() for name, array in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_safetensors(f"{folder}/model.safetensors")


def reference(model, config, run):
    """The file of a model is filled with made-up arrays; then it is run."""
    model = model.double().eval()
    names = saved(model, [p.data for p in model.parameters()])
    arrays = {name: made_up(name, array.shape) for name, array in names.items() if array.dtype == np.float64}
    if hasattr(model, "save_pretrained"):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            save_file(
                {name: torch.tensor(a) for name, a in arrays.items()}, f"{folder}/model.safetensors", {"format": "pt"}
            )
            with in_float64():  # frequencies of rotations are computed here
                model = type(model).from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    else:
        model.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()}, strict=False)
    with in_float64():
        outputs = run(model)
    (outputs * torch.tensor(made_up("cotangent", outputs.shape))).sum().backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    learned = {name: np.asarray(g) for name, g in saved(model, gradients).items() if name in arrays}
    buffers = {name for name, _ in model.named_buffers()}
    return {
        "config": config,
        "arrays": {name: list(array.shape) for name, array in names.items()},
        "outputs": outputs.detach().numpy().tolist(),
        "gradients": {
            name: float((g * made_up(f"gradient of {name}", g.shape)).sum())
            for name, g in learned.items()
            if name not in buffers
        },
    }


def main():
    found = {}
    for name, (family, head, settings) in TRANSFORMERS.items():
        config = getattr(transformers, f"{family}Config")(**settings)
        model = getattr(transformers, family + head)(config)
        field = "last_hidden_state" if head == "Model" else "logits"
        inputs = torch.tensor(IMAGES.transpose(0, 3, 1, 2) if family == "ViT" else TOKENS)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            written = json.loads(Path(folder, "config.json").read_text())
        found[name] = reference(model, written, lambda model, x=inputs, field=field: getattr(model(x), field))
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2))
    name = "vit_tiny_patch16_224"
    config = {"architecture": name, "num_classes": 3, "global_pool": "token", "model_args": TIMM}
    found["timm's ViT"] = reference(timm.create_model(name, num_classes=3, **TIMM), config, lambda model: model(images))
    name = "resnet18"
    config = {"architecture": name, "num_classes": 3}
    found["ResNet-18"] = reference(torchvision.models.resnet18(num_classes=3), config, lambda model: model(images))
    path = Path(__file__).resolve().parents[1] / "tests" / "weights" / "references.json"
    path.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")
    print(f"{path}: {len(found)} models, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
