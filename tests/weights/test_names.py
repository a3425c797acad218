"""Maps of names: renamed by their dots, and of modules of PyTorch whose names differ from the paths here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn
from dlfn.weights import Equal, Summed, To, export_state, ignored, import_state, pytorch, renamed, torch_names, under
from torch_modules import close, same, state_dict

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)

NAMES = {
    "layers.{i}.attention.q.weight": To("h/q", tree="params"),
    ("layers.{i}.lstm.bias_ih_l0", "layers.{i}.lstm.bias_hh_l0"): To("h/b", Summed()),
    "head.weight": "head/w",
    "layers.0.mask": ignored,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"layers.": "h."}, ["h.{i}.attention.q.weight", ("h.{i}.lstm.bias_ih_l0", "h.{i}.lstm.bias_hh_l0"),
                             "head.weight", "h.0.mask"]),
        ({"layers.{n}.": "enc.{n}.x."}, ["enc.{i}.x.attention.q.weight", ("enc.{i}.x.lstm.bias_ih_l0",
                                         "enc.{i}.x.lstm.bias_hh_l0"), "head.weight", "enc.0.x.mask"]),
        ({".attention.q.": ".self.query.", ".weight": ".w", "head.w": "out"},
         ["layers.{i}.self.query.w", list(NAMES)[1], "out", "layers.0.mask"]),
        ({".bias_ih_l0": ".bias_ih", ".bias_hh_l0": ".bias_hh"},
         ["layers.{i}.attention.q.weight", ("layers.{i}.lstm.bias_ih", "layers.{i}.lstm.bias_hh"), "head.weight",
          "layers.0.mask"]),
        ({"layers.{n}.": "", "head.": "lm."},
         ["attention.q.weight", ("lstm.bias_ih_l0", "lstm.bias_hh_l0"), "lm.weight", "mask"]),
        ({}, list(NAMES)),
    ],
)  # fmt: skip
def test_names_change_by_their_dots_and_places_stay(changes, expected):
    found = renamed(NAMES, changes)
    assert list(found) == expected
    assert list(found.values()) == list(NAMES.values())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"layer.": "h."}, ["'layer.' fits none", "layers.{i}.attention.q.weight", "'.old' an end"]),
        ({"attention": "attn"}, ["'attention' fits none"]),
        ({"ead.weight": "out"}, ["'ead.weight' fits none"]),
        ({"layers.{i}.": "h.{j}."}, ["'h.{j}.' has the placeholder 'j'"]),
        ({"": "model."}, ["is empty", "under(names, 'prefix.')"]),
        ({"layers.0.mask": "head.weight"}, ["makes two names 'head.weight'"]),
    ],
)
def test_a_change_that_fits_nothing_is_refused(changes, parts, refused):
    refused(lambda: renamed(NAMES, changes), parts)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_names_of_a_cell_have_no_number(kind, x64):
    module, arrays = state_dict(getattr(torch.nn, f"{kind}Cell")(3, 4))
    cell = getattr(nn, f"{kind}Cell")(4, **({"reset_after": True} if kind == "GRU" else {}))
    x, carry = RNG.normal(size=(2, 3)), tuple(RNG.normal(size=(2, 2, 4)))
    ours, theirs = (carry, tuple(map(torch.tensor, carry))) if kind == "LSTM" else (carry[0], torch.tensor(carry[0]))
    names = torch_names(cell)
    params, _ = import_state(arrays, *jax.eval_shape(cell.init, jax.random.key(0), (ours, x)), names)
    (_, y), _ = cell.apply(params, (), (ours, x))
    after = module(torch.tensor(x), theirs)
    close(y, after[0] if kind == "LSTM" else after)
    assert export_state(params, (), names).keys() == arrays.keys()
    # The same cell over time.
    layer, names = nn.Recurrent(cell), under(getattr(pytorch, kind.lower())(None))
    again, _ = import_state(arrays, *jax.eval_shape(layer.init, jax.random.key(0), x[:, None]), names)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_a_cell_that_pytorch_has_not_is_refused(refused):
    refused(lambda: torch_names(nn.GRUCell(4)), ["GRUCell(features=4)", "reset_after=True"])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_transformer_encoder(norm_first, bias, x64):
    settings = dict(dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first, bias=bias)
    layer = torch.nn.TransformerEncoderLayer(4, 2, 8, **settings)
    last = torch.nn.LayerNorm(4, bias=bias)
    module, arrays = state_dict(torch.nn.TransformerEncoder(layer, 2, norm=last, enable_nested_tensor=False))
    norm = nn.LayerNorm(bias=bias)
    block = nn.TransformerBlock(
        2, ratio=2, norm="pre" if norm_first else "post", bias=bias, normalisation=norm, keep_prob=0.9
    )
    model = nn.Serial(layers=nn.Repeat(block, 2), norm=norm)
    x, names = RNG.normal(size=(3, 5, 4)), torch_names(model)
    params, state = import_state(arrays, *jax.eval_shape(model.init, jax.random.key(0), x), names)
    close(model.apply(params, state, x)[0], module(torch.tensor(x)))
    same(export_state(params, state, names), arrays)


@pytest.mark.parametrize(
    "block",
    [
        nn.TransformerBlock(2, activation="swiglu"),
        nn.TransformerBlock(2, normalisation=nn.RMSNorm()),
        nn.TransformerBlock(2, bias=False),
    ],
    ids=["gated", "RMSNorm", "bias of the norms alone"],
)
def test_a_block_that_pytorch_has_not_keeps_the_names_of_its_layers(block):
    assert {"attention.norm.weight", "mlp.mlp.up.weight"} <= torch_names(block).keys()


NORMALISED = {
    "Linear": (nn.Linear(4), "w", -1, lambda t: t.Linear(3, 4), {}),
    "of the inputs": (nn.Linear(4), "w", 0, lambda t: t.Linear(3, 4), {"dim": 1}),
    "one length": (nn.Linear(4), "w", None, lambda t: t.Linear(3, 4), {"dim": None}),
    "Conv": (nn.Conv(4, (2, 3)), "kernel", -1, lambda t: t.Conv2d(3, 4, (2, 3)), {}),
    "Conv of one axis": (nn.Conv(4, (2,)), "kernel", -1, lambda t: t.Conv1d(3, 4, 2), {}),
    "ConvTranspose": (nn.ConvTranspose(4, 2), "kernel", -2, lambda t: t.ConvTranspose2d(3, 4, 2), {}),
}


@pytest.mark.parametrize("hooks", [False, True])
@pytest.mark.parametrize("case", NORMALISED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_weight_norm(case, hooks, x64):
    layer, weight, axis, make, settings = NORMALISED[case]
    torch.manual_seed(0)
    utils = torch.nn.utils if hooks else torch.nn.utils.parametrizations
    module, arrays = state_dict(torch.nn.Sequential(utils.weight_norm(make(torch.nn), **settings)))
    model = nn.Serial(nn.WeightNorm(layer, weight, axis))
    names = torch_names(model, hooks=hooks)
    shape = (2, 3) if isinstance(layer, nn.Linear) else (2, *[5] * (arrays_rank(arrays) - 2), 3)
    x = RNG.normal(size=shape)
    params, state = import_state(arrays, *jax.eval_shape(model.init, jax.random.key(0), x), names)
    close(jnp.moveaxis(model.apply(params, state, x)[0], -1, 1), module(torch.tensor(np.moveaxis(x, -1, 1))))
    same(export_state(params, state, names), arrays)


def arrays_rank(arrays):
    return max(array.ndim for array in arrays.values())


@pytest.mark.parametrize("hooks", [False, True])
@pytest.mark.parametrize("case", ["Linear", "Conv", "ConvTranspose"])
def test_spectral_norm(case, hooks, x64):
    layer, weight, _, make, _ = NORMALISED[case]
    torch.manual_seed(0)
    utils = torch.nn.utils if hooks else torch.nn.utils.parametrizations
    module = torch.nn.Sequential(utils.spectral_norm(make(torch.nn)), torch.nn.BatchNorm2d(4))
    if case == "Linear":
        module[1] = torch.nn.BatchNorm1d(4)
    module, _ = state_dict(module)
    model = nn.Serial(nn.SpectralNorm(nn.Serial(layer, nn.BatchNorm()), f"0/{weight}"))
    x = RNG.normal(size=(2, 3) if case == "Linear" else (2, 5, 5, 3))
    inputs = torch.tensor(np.moveaxis(x, -1, 1))
    if hooks:  # of which v follows from u once the power iteration is done, here after a few steps
        module[0].weight_orig.data.flatten()[0] = 100
    for _ in range(10 if hooks else 1):
        module(inputs)
    arrays = module.eval().state_dict()
    names = renamed(torch_names(model, hooks=hooks), {"0.{n}.": "{n}."})
    params, state = import_state(arrays, *jax.eval_shape(model.init, jax.random.key(0), x), names)
    close(jnp.moveaxis(model.apply(params, state, x)[0], -1, 1), module(inputs))
    v = "0.weight_v" if hooks else "0.parametrizations.weight.0._v"
    same(export_state(params, state, names), {k: a for k, a in arrays.items() if k not in (v, "1.num_batches_tracked")})


def test_a_normalised_weight_that_is_a_part_of_an_array_is_mapped_by_name(refused):
    layer = nn.WeightNorm(nn.MultiHeadAttention(2), "q/w")
    refused(lambda: torch_names(layer), ["WeightNorm", "'q/w'", "'in_proj_weight'", "map it by name"])


def test_what_a_residual_surrounds_has_no_name_and_its_projection_has_one():
    body = nn.Serial(a=nn.Linear(4), b=nn.ReLU())
    assert list(torch_names(nn.Residual(body), "block.")) == ["block.a.weight", "block.a.bias"]
    names = torch_names(nn.Residual(body, nn.Linear(4, bias=False)), "block.")
    assert {name: to.paths for name, to in names.items()} == {
        "block.a.weight": ("layer/a/w",), "block.a.bias": ("layer/a/b",), "block.projection.weight": ("projection/w",)
    }  # fmt: skip


def test_two_layers_of_one_name_are_refused():
    model = nn.Residual(nn.Serial(projection=nn.Linear(4)), nn.Linear(4))
    with pytest.raises(
        dlfn.InputError, match=r"Residual has two layers of which a parameter is called 'projection\.\w+'"
    ):
        torch_names(model)


class TiedModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = torch.nn.Embedding(7, 3), torch.nn.Linear(3, 7)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def test_a_tied_place_has_no_name(x64):
    module, arrays = state_dict(TiedModel())
    model = nn.Tied(nn.Serial(embedding=nn.Embedding(7, 3), head=nn.Linear(7)), {"head/w": "embedding/table.T"})
    tokens = np.array([[1, 2, 2, 6]])
    names = torch_names(model)
    assert list(names) == ["embedding.weight", "head.bias"]
    like = jax.eval_shape(model.init, jax.random.key(0), tokens)
    once = {name: arrays[name] for name in names}
    params, state = import_state(once, *like, names)
    same(export_state(params, state, names), once)
    both = {("embedding.weight", "head.weight"): To("embedding/table", Equal(2)), "head.bias": "head/b"}
    again, _ = import_state(arrays, *like, both)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    y = module(torch.tensor(tokens))
    close(model.apply(params, state, tokens)[0], y)
    y.sin().sum().backward()
    gradients = jax.grad(lambda params: jnp.sum(jnp.sin(model.apply(params, state, tokens)[0])))(params)
    exported = export_state(gradients, state, both, gradients=True)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        close(exported[name], parameter.grad)


def test_a_part_of_an_array_that_is_tied_is_mapped_by_name(refused):
    model = nn.Tied(nn.Serial(a=nn.MultiHeadAttention(2), b=nn.MultiHeadAttention(2)), {"b/q": "a/q"})
    refused(lambda: torch_names(model), ["'b.in_proj_weight' is tied", "by name"])
    model = nn.Tied(nn.Serial(a=nn.MultiHeadAttention(2), b=nn.MultiHeadAttention(2)), {"b": "a"})
    assert not any(name.startswith("b.") for name in torch_names(model))
