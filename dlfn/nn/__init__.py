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
from dlfn.nn.cells import Cell, GRUCell, LSTMCell, RNNCell
from dlfn.nn.combinators import Residual, Serial
from dlfn.nn.layer import Layer
from dlfn.nn.models import mlp
from dlfn.nn.recurrent import GRU, LSTM, RNN, Bidirectional, Recurrent, Sequence, Stacked
from dlfn.nn.summary import count_parameters, summary
from dlfn.nn.zoneout import Zoneout

__all__ = [
    "ACTIVATIONS",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Bidirectional",
    "Cell",
    "Dropout",
    "Flatten",
    "GRUCell",
    "LSTMCell",
    "Layer",
    "Linear",
    "LogSoftmax",
    "RNNCell",
    "ReLU",
    "Recurrent",
    "Residual",
    "Sequence",
    "Serial",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Stacked",
    "Tanh",
    "Zoneout",
    "count_parameters",
    "initializers",
    "mlp",
    "summary",
]
