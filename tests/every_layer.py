"""Every layer of dlfn.nn, by the kind of arrays that it takes and makes, for tests of all."""

import functools

from dlfn import nn

CHANNELS, IDS = 4, 7
SHAPES = {"row": (3, CHANNELS), "image": (2, 5, 6, CHANNELS), "sequence": (2, 5, CHANNELS)}

# Layers by the input that they take. All but those of ENDS keep the sizes of the axes before the last one.
ANYWHERE = {
    "Linear": lambda: nn.Linear(6),
    "Linear without bias": lambda: nn.Linear(3, bias=False),
    "BayesianLinear": lambda: nn.BayesianLinear(3),
    "Dropout": lambda: nn.Dropout(0.7),
    "LayerNorm": lambda: nn.LayerNorm(),
    "RMSNorm": lambda: nn.RMSNorm(),
    "BatchNorm": lambda: nn.BatchNorm(),
    "WeightNorm": lambda: nn.WeightNorm(nn.Linear(3)),
    "SpectralNorm": lambda: nn.SpectralNorm(nn.Linear(3)),
    "DropConnect": lambda: nn.DropConnect(nn.Linear(5), 0.7),
    "PReLU": lambda: nn.PReLU(),
    "Tied": lambda: nn.Serial(nn.Linear(4), nn.Tied(nn.Serial(nn.Linear(4), nn.Linear(4)), {"1/w": "0/w.T"})),
    "GLU": lambda: nn.Serial(nn.Linear(8), nn.GLU()),
    "GEGLU": lambda: nn.Serial(nn.Linear(8), nn.GEGLU()),
    "SwiGLU": lambda: nn.Serial(nn.Linear(8), nn.SwiGLU()),
    **{name: functools.partial(nn.Activation, name) for name in nn.ACTIVATIONS},
}
BY_KIND = {
    "row": {},
    "image": {
        "Conv": lambda: nn.Conv(4, (3, 2), padding="SAME"),
        "Conv, dilated groups": lambda: nn.Serial(
            nn.Linear(4), nn.Conv(6, (3, 3), padding="SAME", dilation=2, groups=2)
        ),
        "DepthwiseConv": lambda: nn.DepthwiseConv((3, 3), padding="SAME"),
        "ConvTranspose": lambda: nn.ConvTranspose(3, (3, 3), padding=1),
        "MaxPool": lambda: nn.MaxPool((3, 3), strides=1, padding="SAME"),
        "AvgPool": lambda: nn.AvgPool((3, 3), strides=1, padding="SAME", count_padding=False),
        "InstanceNorm": lambda: nn.InstanceNorm(),
        "GroupNorm": lambda: nn.Serial(nn.Linear(4), nn.GroupNorm(2)),
        "SpatialDropout": lambda: nn.SpatialDropout(0.7),
    },
    "sequence": {
        "RNN": lambda: nn.RNN(3),
        "LSTM": lambda: nn.LSTM(3),
        "GRU": lambda: nn.GRU(3),
        "GRU, reset after": lambda: nn.GRU(3, reset_after=True),
        "Bidirectional": lambda: nn.Bidirectional(nn.LSTM(2)),
        "Stacked": lambda: nn.Stacked(nn.GRU(2), nn.RNN(3), keep_prob=0.8),
        "ProjectedLSTMCell": lambda: nn.Recurrent(nn.ProjectedLSTMCell(4, projection=3)),
        "Zoneout": lambda: nn.Recurrent(nn.Zoneout(nn.LSTMCell(3))),
        "MultiHeadAttention": lambda: nn.MultiHeadAttention(2, head_dim=3, causal=True),
        "grouped queries, rope": lambda: nn.MultiHeadAttention(4, kv_heads=2, positions="rope", head_dim=2),
        "ALiBi": lambda: nn.MultiHeadAttention(2, positions="alibi", head_dim=2, bias=False),
        "attention with dropout": lambda: nn.MultiHeadAttention(2, head_dim=2, attention_keep_prob=0.6),
        "TransformerBlock": lambda: nn.TransformerBlock(2, head_dim=2, causal=True),
        "TransformerBlock, post-norm": lambda: nn.TransformerBlock(
            2, head_dim=2, norm="post", keep_prob=0.8, activation="swiglu"
        ),
        "LearnedPositions": lambda: nn.LearnedPositions(8),
        "SinusoidalPositions": lambda: nn.Serial(nn.Linear(4), nn.SinusoidalPositions()),
        "Checkpointed": lambda: nn.Checkpointed(nn.FeedForward()),
        "Conv in time": lambda: nn.Conv(3, (3,), padding="SAME"),
        "mixed over time": lambda: nn.Serial(nn.Permute((0, 2, 1)), nn.Linear(5), nn.Permute((0, 2, 1))),
    },
}
ENDS = {
    "row": {},
    "image": {
        "Flatten": lambda: nn.Flatten(),
        "GlobalAvgPool": lambda: nn.GlobalAvgPool(),
        "GlobalMaxPool": lambda: nn.GlobalMaxPool(),
        "MaxPool": lambda: nn.Serial(nn.MaxPool(2), nn.Flatten()),
        "AdaptiveAvgPool": lambda: nn.AdaptiveAvgPool(2),
        "AdaptiveMaxPool": lambda: nn.AdaptiveMaxPool((3, 2)),
        "Conv, strides": lambda: nn.Conv(2, (2, 2), strides=2),
    },
    "sequence": {
        "Flatten": lambda: nn.Flatten(),
        "LSTM": lambda: nn.LSTM(3, output="last"),
        "class token": lambda: nn.Serial(nn.ClassToken(), nn.MultiHeadAttention(2, head_dim=2), nn.TakeStep(0)),
    },
}
