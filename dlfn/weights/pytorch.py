"""What PyTorch's modules call their parameters, and where those go in the layers here."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dlfn import nn
from dlfn.core import InputError
from dlfn.weights.names import Names, To, ignored, under
from dlfn.weights.rules import GRUBias, GRUWeight, Split, Summed, kernel, transpose, transposed_kernel

__all__ = [
    "LAYERS",
    "batch_norm",
    "conv",
    "conv_transpose",
    "embedding",
    "gru",
    "linear",
    "lstm",
    "multi_head_attention",
    "norm",
    "rnn",
    "transformer_encoder_layer",
]


def linear(*, bias: bool = True) -> Names:
    """``torch.nn.Linear``: (out, in) to w (in, out)."""
    return {"weight": To("w", transpose), **({"bias": "b"} if bias else {})}


def conv(*, bias: bool = True) -> Names:
    """``torch.nn.Conv1d``, ``2d`` and ``3d``, grouped or not."""
    return {"weight": To("kernel", kernel), **({"bias": "bias"} if bias else {})}


def conv_transpose(*, bias: bool = True) -> Names:
    """``torch.nn.ConvTranspose1d``, ``2d`` and ``3d``, grouped or not."""
    return {"weight": To("kernel", transposed_kernel), **({"bias": "bias"} if bias else {})}


def norm(*, scale: bool = True, bias: bool = True) -> Names:
    """``torch.nn.LayerNorm``, ``GroupNorm``, ``InstanceNorm`` with ``affine=True``; ``RMSNorm`` has no bias."""
    return {**({"weight": "scale"} if scale else {}), **({"bias": "bias"} if bias else {})}


def batch_norm(*, scale: bool = True, bias: bool = True) -> Names:
    """``torch.nn.BatchNorm1d``, ``2d`` and ``3d``: running mean and variance are state; the count of batches, which
    PyTorch uses with ``momentum=None`` alone, is ignored."""
    return {
        **norm(scale=scale, bias=bias),
        "running_mean": To("mean", tree="state"),
        "running_var": To("var", tree="state"),
        "num_batches_tracked": ignored,
    }


def embedding() -> Names:
    """``torch.nn.Embedding``."""
    return {"weight": "table"}


def rnn(layer: int | None = 0, *, reverse: bool = False, bias: bool = True) -> Names:
    """One layer and direction of ``torch.nn.RNN``: two biases that are summed. ``layer`` is its number, or None for a
    ``torch.nn.RNNCell``, whose names have none."""
    end = _end(layer, reverse)
    names: Names = {f"weight_ih{end}": To("w_x", transpose), f"weight_hh{end}": To("w_h", transpose)}
    return {**names, **({(f"bias_ih{end}", f"bias_hh{end}"): To("b", Summed())} if bias else {})}


def lstm(layer: int | None = 0, *, reverse: bool = False, bias: bool = True, projected: bool = False) -> Names:
    """One layer and direction of ``torch.nn.LSTM``, whose gates i, f, g, o stand in the order of those here. ``layer``
    is as in :func:`rnn`, None for a ``torch.nn.LSTMCell``; ``projected`` is whether it has a ``proj_size``."""
    projection: Names = {f"weight_hr{_end(layer, reverse)}": To("w_p", transpose)} if projected else {}
    return {**rnn(layer, reverse=reverse, bias=bias), **projection}


def gru(layer: int | None = 0, *, reverse: bool = False, bias: bool = True) -> Names:
    """One layer and direction of ``torch.nn.GRU``, for a GRU here with ``reset_after``. ``layer`` is as in :func:`rnn`,
    None for a ``torch.nn.GRUCell``."""
    end = _end(layer, reverse)
    names: Names = {f"weight_ih{end}": To("w_x", GRUWeight()), f"weight_hh{end}": To("w_h", GRUWeight())}
    return {**names, **({(f"bias_ih{end}", f"bias_hh{end}"): To(("b", "b_h"), GRUBias())} if bias else {})}


def _end(layer: int | None, reverse: bool) -> str:
    return "" if layer is None else f"_l{layer}{'_reverse' if reverse else ''}"


def multi_head_attention(inputs: Sequence[str] = ("q", "k", "v"), output: str = "o", *, bias: bool = True) -> Names:
    """``torch.nn.MultiheadAttention`` with keys and values as wide as queries: one (3 E, E) for three linear maps.

    Args:
        inputs: the paths of the linear layers of queries, keys and values.
        output: that of the output's.
        bias: whether they have biases.
    """
    names: Names = {"in_proj_weight": To([f"{path}/w" for path in inputs], Split(3, then=transpose))}
    biases: Names = {"in_proj_bias": To([f"{path}/b" for path in inputs], Split(3))} if bias else {}
    return {**names, **biases, **under(linear(bias=bias), "out_proj.", output)}


def transformer_encoder_layer(*, norm_first: bool = False, bias: bool = True) -> Names:
    """``torch.nn.TransformerEncoderLayer``, for a :func:`dlfn.nn.TransformerBlock`.

    Args:
        norm_first: as in PyTorch; the block has ``norm="pre"`` for True, and ``norm="post"`` for False.
        bias: whether linear maps and normalisations have one.
    """
    norms = ("attention/norm", "mlp/norm") if norm_first else ("attention_norm", "mlp_norm")
    return {
        **under(multi_head_attention(bias=bias), "self_attn.", "attention/attention"),
        **under(linear(bias=bias), "linear1.", "mlp/mlp/up"),
        **under(linear(bias=bias), "linear2.", "mlp/mlp/down"),
        **under(norm(bias=bias), "norm1.", norms[0]),
        **under(norm(bias=bias), "norm2.", norms[1]),
    }


def _cell(cell: nn.Cell, number: int | None = None, reverse: bool = False) -> Names:
    match cell:
        case nn.GRUCell(reset_after=True, bias=bias):
            return gru(number, reverse=reverse, bias=bias)
        case nn.LSTMCell(bias=bias):
            return lstm(number, reverse=reverse, bias=bias, projected=isinstance(cell, nn.ProjectedLSTMCell))
        case nn.RNNCell(bias=bias):
            return rnn(number, reverse=reverse, bias=bias)
    raise InputError(f"torch_names: PyTorch has no module for {cell}; a GRU needs reset_after=True")


def _recurrent(layer: nn.Recurrent, number: int = 0) -> Names:
    return _cell(layer.cell, number, layer.reverse)


def _bidirectional(layer: nn.Bidirectional, number: int = 0) -> Names:
    both = layer.children()
    return {
        **under(_recurrent(both["forward"], number), "", "forward"),
        **under(_recurrent(both["backward"], number), "", "backward"),
    }


def _stacked(layer: nn.Stacked) -> Names:
    found: Names = {}
    for number, (name, child) in enumerate(layer.children().items()):
        names = _bidirectional(child, number) if isinstance(child, nn.Bidirectional) else _recurrent(child, number)
        found |= under(names, "", name)
    return found


def _attention(layer: nn.MultiHeadAttention) -> Names:
    if layer.kv_heads not in (None, layer.heads) or layer.head_dim is not None:
        raise InputError(
            f"torch_names: torch.nn.MultiheadAttention has as many key heads as heads, of features / heads each, and "
            f"{layer} has not; map its parameters by name"
        )
    return multi_head_attention(bias=layer.bias)


def transformer_block(layer: nn.Layer) -> Names | None:
    """The names of ``torch.nn.TransformerEncoderLayer``, if that is what a TransformerBlock is in PyTorch."""
    match dict(_parts(layer)) if isinstance(layer, nn.Serial) else {}:
        case {
            "attention/attention": nn.MultiHeadAttention(bias=bias),
            "mlp/mlp": nn.FeedForward(bias=mlp_bias, activation=activation),
            **norms,
        } if activation not in (*nn.GATED, *nn.GATED.values()):
            alike = all(isinstance(norm, nn.LayerNorm) and norm.scale and norm.bias == bias for norm in norms.values())
            for norm_first, paths in ((True, ("attention/norm", "mlp/norm")), (False, ("attention_norm", "mlp_norm"))):
                if alike and mlp_bias == bias and tuple(norms) == paths:
                    return transformer_encoder_layer(norm_first=norm_first, bias=bias)
    return None


def _parts(layer: nn.Layer, path: str = "") -> Iterator[tuple[str, nn.Layer]]:
    """The layers of a block by path, but for dropout."""
    for name, child in layer.children().items():
        below = "/".join(part for part in (path, name) if part)
        if isinstance(child, nn.Serial | nn.Residual):
            yield from _parts(child, below)
        elif not isinstance(child, nn.Dropout):
            yield below, child


# The names of a layer's own parameters, by its type; the layers of a combinator have their own.
LAYERS: dict[type[nn.Layer], Callable[[Any], Names]] = {
    nn.Linear: lambda layer: linear(bias=layer.bias),
    nn.Conv: lambda layer: conv(bias=layer.bias),
    nn.DepthwiseConv: lambda layer: conv(bias=layer.bias),
    nn.ConvTranspose: lambda layer: conv_transpose(bias=layer.bias),
    nn.LayerNorm: lambda layer: norm(scale=layer.scale, bias=layer.bias),
    nn.GroupNorm: lambda layer: norm(scale=layer.scale, bias=layer.bias),
    nn.InstanceNorm: lambda layer: norm(scale=layer.scale, bias=layer.bias),
    nn.RMSNorm: lambda layer: norm(scale=layer.scale, bias=False),
    nn.BatchNorm: lambda layer: batch_norm(scale=layer.scale, bias=layer.bias),
    nn.MultiHeadAttention: _attention,
    nn.FeedForward: lambda layer: {
        **under(linear(bias=layer.bias), "up.", "up"),
        **under(linear(bias=layer.bias), "down.", "down"),
    },
    nn.LearnedPositions: lambda layer: embedding(),
    nn.PReLU: lambda layer: {"weight": "alpha"},
    nn.Embedding: lambda layer: embedding(),
    nn.RNNCell: _cell,
    nn.LSTMCell: _cell,
    nn.ProjectedLSTMCell: _cell,
    nn.GRUCell: _cell,
    nn.Recurrent: _recurrent,
    nn.Bidirectional: _bidirectional,
    nn.Stacked: _stacked,
}
