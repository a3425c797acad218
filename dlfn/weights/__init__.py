"""Weights from and to other libraries and safetensors files."""

from dlfn.weights import pytorch, rules
from dlfn.weights.files import load_metadata, load_params, load_safetensors, save_params, save_safetensors
from dlfn.weights.mapping import export_state, import_state
from dlfn.weights.modules import torch_names
from dlfn.weights.names import Names, To, ignored, under
from dlfn.weights.rules import (
    Flattened,
    GRUBias,
    GRUWeight,
    Rule,
    Split,
    Summed,
    identity,
    kernel,
    transpose,
    transposed_kernel,
)

__all__ = [
    "Flattened",
    "GRUBias",
    "GRUWeight",
    "Names",
    "Rule",
    "Split",
    "Summed",
    "To",
    "export_state",
    "identity",
    "ignored",
    "import_state",
    "kernel",
    "load_metadata",
    "load_params",
    "load_safetensors",
    "pytorch",
    "rules",
    "save_params",
    "save_safetensors",
    "torch_names",
    "transpose",
    "transposed_kernel",
    "under",
]
