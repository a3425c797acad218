"""Layers as static configuration with two pure functions, combinators, initialisers and models."""

from dlfn.nn import initializers, models
from dlfn.nn.activations import (
    ACTIVATIONS,
    CELU,
    ELU,
    GATED,
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
from dlfn.nn.attention import MultiHeadAttention
from dlfn.nn.basic import Flatten, Linear
from dlfn.nn.bayesian import BayesianLinear
from dlfn.nn.cells import Cell, GRUCell, LSTMCell, RNNCell
from dlfn.nn.checkpointed import Checkpointed
from dlfn.nn.combinators import Parallel, Residual, Serial
from dlfn.nn.conv import Conv, ConvTranspose, DepthwiseConv
from dlfn.nn.dropout import DropConnect, Dropout, SpatialDropout
from dlfn.nn.embedding import Embedding
from dlfn.nn.gated import GEGLU, GLU, Gated, PReLU, SwiGLU
from dlfn.nn.generation import generate
from dlfn.nn.layer import Layer
from dlfn.nn.models.perceptrons import mlp
from dlfn.nn.normalisation import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from dlfn.nn.overview import count_flops, count_parameters, summary
from dlfn.nn.pooling import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from dlfn.nn.positions import LearnedPositions, SinusoidalPositions
from dlfn.nn.projected import ProjectedLSTMCell
from dlfn.nn.recurrent import GRU, LSTM, RNN, Bidirectional, Recurrent, Stacked
from dlfn.nn.repeat import Repeat
from dlfn.nn.rope import LinearScaling, Llama3Scaling, Rope, RopeScaling, YarnScaling
from dlfn.nn.sequence import Sequence
from dlfn.nn.steps import ClassToken, Permute, TakeStep
from dlfn.nn.tied import Tied
from dlfn.nn.transformer import FeedForward, TransformerBlock
from dlfn.nn.weights import SpectralNorm, WeightNorm
from dlfn.nn.zoneout import Zoneout

__all__ = [
    "ACTIVATIONS",
    "CELU",
    "ELU",
    "GATED",
    "GEGLU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Activation",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BatchNorm",
    "BayesianLinear",
    "Bidirectional",
    "Cell",
    "Checkpointed",
    "ClassToken",
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "DropConnect",
    "Dropout",
    "Embedding",
    "FeedForward",
    "Flatten",
    "GRUCell",
    "Gated",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "InstanceNorm",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositions",
    "Linear",
    "LinearScaling",
    "Llama3Scaling",
    "LogSigmoid",
    "LogSoftmax",
    "MaxPool",
    "Mish",
    "MultiHeadAttention",
    "PReLU",
    "Parallel",
    "Permute",
    "ProjectedLSTMCell",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "Recurrent",
    "Repeat",
    "Residual",
    "Rope",
    "RopeScaling",
    "Sequence",
    "Serial",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpatialDropout",
    "SpectralNorm",
    "Squareplus",
    "Stacked",
    "SwiGLU",
    "TakeStep",
    "Tanh",
    "Tied",
    "TransformerBlock",
    "WeightNorm",
    "YarnScaling",
    "Zoneout",
    "count_flops",
    "count_parameters",
    "generate",
    "initializers",
    "mlp",
    "models",
    "summary",
]
