"""Layers as static configuration with two pure functions, combinators, initialisers and models."""

from dlfn.nn import initializers
from dlfn.nn.activations import (
    ACTIVATIONS,
    GELU,
    Activation,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from dlfn.nn.basic import Dropout, Flatten, Linear
from dlfn.nn.combinators import Residual, Serial
from dlfn.nn.embedding import Embedding
from dlfn.nn.layer import Layer
from dlfn.nn.models import mlp
from dlfn.nn.summary import count_parameters, summary

__all__ = [
    "ACTIVATIONS",
    "GELU",
    "Activation",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "Linear",
    "LogSoftmax",
    "ReLU",
    "Residual",
    "Serial",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "count_parameters",
    "initializers",
    "mlp",
    "summary",
]
