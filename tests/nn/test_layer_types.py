"""The annotations of every layer say what it takes and makes: beartype finds its arguments and results as jaxtyping has
them."""

import functools
import inspect

import beartype
import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from dlfn import nn
from dlfn.nn.overview import visits
from dlfn.nn.sequence import values_of
from every_layer import ANYWHERE, BY_KIND, ENDS, IDS, SHAPES
from helpers import lines_with_type_errors, ordinarily

# Where an int stands for a float.
typechecker = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))

MODELS = {
    f"{kind}: {name}": (layer, jax.ShapeDtypeStruct(shape, jnp.float32))
    for kind, shape in SHAPES.items()
    for name, layer in {**ANYWHERE, **BY_KIND[kind], **ENDS[kind]}.items()
}
_IDS = jax.ShapeDtypeStruct((2, IDS), jnp.int32)
_STEPS = jax.ShapeDtypeStruct((2, 5, 4), jnp.float32)
_PADDED = nn.Sequence(_STEPS, jax.ShapeDtypeStruct((2,), jnp.int32))
MODELS |= {
    "Embedding": (lambda: nn.Embedding(IDS, 4), _IDS),
    "Parallel": (lambda: nn.Parallel(nn.Linear(4), nn.Residual(nn.FeedForward())), _STEPS),
    "Repeat": (lambda: nn.Repeat(nn.TransformerBlock(2), 2), _STEPS),
    "a Sequence": (lambda: nn.Serial(nn.ReLU(), nn.Stacked(nn.LSTM(4)), nn.TransformerBlock(2)), _PADDED),
    "decoding": (lambda: nn.MultiHeadAttention(2, causal=True, cache=8), _STEPS),
    "learned positions, decoding": (lambda: nn.LearnedPositions(8, decoding=True), _STEPS),
    "a context": (lambda: nn.MultiHeadAttention(2), (_STEPS, _STEPS)),
    "cnn": (lambda: nn.models.cnn(3, channels=(2,), hidden=4), jax.ShapeDtypeStruct((2, 8, 8), jnp.float32)),
    "vit": (
        lambda: nn.models.vit(3, layers=1, heads=2, width=4, checkpoint=True),
        jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32),
    ),
    "gpt": (lambda: nn.models.gpt(IDS, layers=1, heads=2, width=4), _IDS),
    "vae": (lambda: nn.models.vae(widths=(4,), latent=2), _STEPS),
}
CELLS = {
    "RNNCell": lambda: nn.RNNCell(3),
    "LSTMCell": lambda: nn.LSTMCell(3),
    "GRUCell": lambda: nn.GRUCell(3, reset_after=True),
    "ProjectedLSTMCell": lambda: nn.ProjectedLSTMCell(3, projection=2),
    "Zoneout": lambda: nn.Zoneout(nn.LSTMCell(3)),
}


def checked(method):
    """The method as it was written, which raises where arguments or result are not as annotated."""
    return jaxtyping.jaxtyped(typechecker=typechecker)(inspect.unwrap(method))


def require_types(layer, x, train=True):
    """Calls ``init`` and ``apply`` of the layer itself; the layers inside are called as they are."""
    if layer.takes != "anything":
        x = values_of(x)
    key = jax.random.key(0)
    params, state = jax.eval_shape(lambda x: checked(type(layer).init)(layer, key, x), x)
    apply = functools.partial(checked(type(layer).apply), layer, key=key, train=train)
    jax.eval_shape(apply, params, state, x)


# What goes anywhere is annotated alike for rows, images and sequences.
AGAIN = {f"{kind}: {name}" for kind in SHAPES if kind != "row" for name in ANYWHERE}


@pytest.mark.parametrize("name", ordinarily(MODELS.keys() - AGAIN, MODELS))
def test_layers_are_as_annotated(name):
    layer, x = MODELS[name]
    for visit in visits(layer(), x):
        require_types(visit.layer, visit.x)


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_as_annotated(name):
    cell, x = CELLS[name](), jax.ShapeDtypeStruct((2, 4), jnp.float32)
    require_types(cell, (jax.eval_shape(cell.initial, x), x))


def test_half_precision_inference_and_old_keys_are_as_annotated():
    layer, x = nn.LayerNorm(), jnp.ones((2, 4), jnp.bfloat16)
    require_types(layer, x, train=False)
    checked(nn.Dropout.apply)(nn.Dropout(0.5), (), (), x, key=jax.random.PRNGKey(0), train=True)


def test_every_layer_is_called():
    public = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Layer)}
    called = {type(visit.layer) for layer, x in MODELS.values() for visit in visits(layer(), x)}
    assert public - {nn.Layer, nn.Cell} == (called | {type(cell()) for cell in CELLS.values()}) & public


@pytest.mark.parametrize(
    ("layer", "x", "wrong"),
    [
        (nn.Linear(3), jax.ShapeDtypeStruct((2, 4), jnp.int32), "x"),
        (nn.BatchNorm(), jax.ShapeDtypeStruct((2, 4), jnp.bool_), "x"),
        (nn.RNNCell(3), (jnp.ones((5, 3)), jnp.ones((2, 4))), "x"),
    ],
    ids=["integers", "booleans", "a carry of another batch"],
)
def test_wrong_inputs_are_not_as_annotated(layer, x, wrong):
    example = x if isinstance(x, tuple) else jax.ShapeDtypeStruct(x.shape, jnp.float32)
    params, state = layer.init(jax.random.key(0), example)
    with pytest.raises(jaxtyping.TypeCheckError, match=f"argument: {wrong}|{wrong}"):
        jax.eval_shape(functools.partial(checked(type(layer).apply), layer), params, state, x)


CALLS = """\
import jax.numpy as jnp
from dlfn import nn

x = nn.Sequence(jnp.ones((2, 5, 4)), jnp.array([5, 3]))
layers = (
    nn.Linear(4), nn.BayesianLinear(4), nn.Dropout(0.5), nn.Embedding(3, 4), nn.PReLU(), nn.SwiGLU(), nn.LayerNorm(),
    nn.RMSNorm(), nn.LearnedPositions(5), nn.SinusoidalPositions(5), nn.FeedForward(), nn.ReLU(), nn.LSTM(4),
)
for layer in layers:
    print(layer.apply((), (), x)[0].values, layer.apply((), (), x.values)[0].shape)
nn.Conv(4, 3).apply((), (), x)
nn.BatchNorm().apply((), (), x)
"""


@pytest.mark.exhaustive  # it takes as long as checking all of dlfn does
def test_a_type_checker_knows_which_layers_take_a_sequence(tmp_path):
    assert lines_with_type_errors(CALLS, tmp_path) == {11, 12}
