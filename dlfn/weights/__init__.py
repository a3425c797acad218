"""Weights from and to other libraries and safetensors files."""

from dlfn.weights import maps, pytorch, rules
from dlfn.weights.files import (
    load_metadata,
    load_params,
    load_safetensors,
    open_safetensors,
    save_params,
    save_safetensors,
)
from dlfn.weights.mapping import export_state, import_state
from dlfn.weights.modules import torch_names
from dlfn.weights.names import Names, To, ignored, renamed, under
from dlfn.weights.pretrained import Pretrained, from_pretrained, save_pretrained
from dlfn.weights.programs import export_onnx, export_program
from dlfn.weights.rules import (
    Equal,
    Flattened,
    GRUBias,
    GRUWeight,
    Joined,
    Rule,
    Split,
    Squeezed,
    Summed,
    Tied,
    Unsqueezed,
    identity,
    kernel,
    transpose,
    transposed_kernel,
)

__all__ = [
    "Equal",
    "Flattened",
    "GRUBias",
    "GRUWeight",
    "Joined",
    "Names",
    "Pretrained",
    "Rule",
    "Split",
    "Squeezed",
    "Summed",
    "Tied",
    "To",
    "Unsqueezed",
    "export_onnx",
    "export_program",
    "export_state",
    "from_pretrained",
    "identity",
    "ignored",
    "import_state",
    "kernel",
    "load_metadata",
    "load_params",
    "load_safetensors",
    "maps",
    "open_safetensors",
    "pytorch",
    "renamed",
    "rules",
    "save_params",
    "save_pretrained",
    "save_safetensors",
    "torch_names",
    "transpose",
    "transposed_kernel",
    "under",
]
