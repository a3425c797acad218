"""Layers as static configuration with two pure functions, combinators, initialisers and models."""

from dlfn.nn import initializers
from dlfn.nn.activations import (
    ACTIVATIONS,
    CELU,
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    HardSwish,
    HardTanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Squareplus,
    Tanh,
)
from dlfn.nn.basic import Flatten, Linear
from dlfn.nn.combinators import Residual, Serial
from dlfn.nn.dropout import DropConnect, Dropout, SpatialDropout
from dlfn.nn.gated import GEGLU, GLU, Gated, PReLU, SwiGLU
from dlfn.nn.layer import Layer
from dlfn.nn.models import mlp
from dlfn.nn.summary import count_parameters, summary

__all__ = [
    "ACTIVATIONS",
    "CELU",
    "ELU",
    "GEGLU",
    "GELU",
    "GLU",
    "SELU",
    "Activation",
    "DropConnect",
    "Dropout",
    "Flatten",
    "Gated",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "Residual",
    "Serial",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpatialDropout",
    "Squareplus",
    "SwiGLU",
    "Tanh",
    "count_parameters",
    "initializers",
    "mlp",
    "summary",
]
