"""Weights from PyTorch and back: against PyTorch's own modules in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops, weights
from dlfn.weights import (
    Flattened,
    Split,
    To,
    export_state,
    ignored,
    import_state,
    pytorch,
    torch_names,
    transpose,
    under,
)
from torch_modules import close, same, state_dict

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)


def round_trip(arrays, shapes, state_shapes, names):
    """What is imported, after checking that exporting it and importing that again changes nothing."""
    like = [
        {name: jax.ShapeDtypeStruct(shape, jnp.float64) for name, shape in tree.items()}
        for tree in (shapes, state_shapes)
    ]
    params, state = import_state(arrays, *like, names)
    exported = export_state(params, state, names)
    assert all(array.flags.c_contiguous for array in exported.values())
    jax.tree.map(np.testing.assert_array_equal, import_state(exported, *like, names), (params, state))
    return params, state, exported


def test_a_network_of_linear_layers_agrees_with_pytorch_in_value_and_gradient(x64):
    block = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.GELU(), torch.nn.Linear(6, 4))
    blocks = [torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.GELU(), torch.nn.Linear(6, 4)) for _ in range(3)]
    module, arrays = state_dict(
        torch.nn.ModuleDict(
            {
                "first": torch.nn.Linear(5, 4),
                "blocks": torch.nn.ModuleList(blocks),
                "last": block,
                "head": torch.nn.Linear(4, 2, bias=False),
            }
        )
    )
    mlp = nn.Serial(nn.Linear(6), nn.GELU(), nn.Linear(4))
    model = nn.Serial(
        first=nn.Linear(4), blocks=nn.Repeat(nn.Residual(mlp), 3), last=mlp, head=nn.Linear(2, bias=False)
    )
    like = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 5), jnp.float64))
    names = torch_names(model)
    params, state = import_state(arrays, *like, names)
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    y = module["first"](x)
    for layers in module["blocks"]:
        y = y + layers(y)
    y = module["head"](module["last"](y))
    y.sin().sum().backward()

    def loss(params, x):
        y, _ = model.apply(params, state, x)
        return jnp.sum(jnp.sin(y)), y

    (_, ours), (d_params, d_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, jnp.asarray(x.detach().numpy()))
    close(ours, y)
    close(d_x, x.grad)
    gradients = export_state(d_params, state, names)
    for name, parameter in module.named_parameters():
        close(gradients[name], parameter.grad)
    same(export_state(params, state, names), arrays)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_kernels(rank, groups, x64):
    window = (3, 2, 1)[:rank]
    module, arrays = state_dict(getattr(torch.nn, f"Conv{rank}d")(4, 6, window, groups=groups))
    params, _, exported = round_trip(arrays, {"kernel": (*window, 4 // groups, 6), "bias": (6,)}, {}, pytorch.conv())
    x = RNG.normal(size=(2, *[5] * rank, 4))
    spatial = "DHW"[-rank:]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    y = jax.lax.conv_general_dilated(
        x, params["kernel"], (1,) * rank, "VALID", dimension_numbers=layout, feature_group_count=groups
    )
    close(jnp.moveaxis(y + params["bias"], -1, 1), module(torch.tensor(np.moveaxis(x, -1, 1))))
    same(exported, arrays)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_kernels(groups, x64):
    module, arrays = state_dict(torch.nn.ConvTranspose2d(4, 6, (3, 2), stride=2, groups=groups))
    shapes = {"kernel": (3, 2, 4, 6 // groups), "bias": (6,)}
    params, _, exported = round_trip(arrays, shapes, {}, pytorch.conv_transpose())
    x = RNG.normal(size=(2, 5, 4, 4))
    kernel = params["kernel"].reshape(3, 2, groups, 4 // groups, 6 // groups)
    y = np.zeros((2, 11, 8, groups, 6 // groups))
    for i, j in np.ndindex(3, 2):  # every entry adds its multiple of the window
        share = jnp.einsum("nhwgi,gio->nhwgo", x.reshape(2, 5, 4, groups, -1), kernel[i, j])
        y[:, i : i + 9 : 2, j : j + 7 : 2] += share
    close(np.moveaxis(y.reshape(2, 11, 8, 6) + params["bias"], -1, 1), module(torch.tensor(np.moveaxis(x, -1, 1))))
    same(exported, arrays)


def test_a_linear_layer_behind_flattened_channels(x64):
    module, arrays = state_dict(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 5, 2)))
    names = under({"weight": To("w", Flattened((3, 4, 5))), "bias": "b"}, "1.")
    params, _, exported = round_trip(arrays, {"w": (60, 2), "b": (2,)}, {}, names)
    x = RNG.normal(size=(7, 4, 5, 3))
    close(ops.linear(x.reshape(7, 60), params["w"], params["b"]), module(torch.tensor(np.moveaxis(x, -1, 1))))
    same(exported, arrays)


def test_batch_norm_statistics_are_state(x64):
    module, _ = state_dict(torch.nn.BatchNorm1d(4))
    x = torch.randn(9, 4, dtype=torch.float64)
    module(x)
    arrays, shape = module.eval().state_dict(), (4,)
    params, state, exported = round_trip(
        arrays, {"scale": shape, "bias": shape}, {"mean": shape, "var": shape}, pytorch.batch_norm()
    )
    y = (x.numpy() - state["mean"]) / jnp.sqrt(state["var"] + module.eps) * params["scale"] + params["bias"]
    close(y, module(x))
    same(exported, {name: array for name, array in arrays.items() if name != "num_batches_tracked"})


def _recurrent(kind, names, gates, extra=()):
    module, arrays = state_dict(kind(3, 4, num_layers=1, batch_first=True))
    shapes = {"w_x": (3, gates * 4), "w_h": (4, gates * 4), "b": (gates * 4,), **dict(extra)}
    params, _, exported = round_trip(arrays, shapes, {}, names)
    x = RNG.normal(size=(2, 6, 3))
    # What is exported must be the same function to PyTorch, though not the same biases.
    again = kind(3, 4, batch_first=True).double()
    again.load_state_dict({name: torch.tensor(array) for name, array in exported.items()})
    expected = module(torch.tensor(x))[0]
    close(again(torch.tensor(x))[0].detach().numpy(), expected)
    return params, x, expected


def _steps(step, x, width, *more):
    state, outputs = (jnp.zeros((2, width)), *more), []
    for t in range(x.shape[1]):
        state = step(x[:, t], *state)
        outputs.append(state[0])
    return jnp.stack(outputs, 1)


def test_rnn(x64):
    params, x, expected = _recurrent(torch.nn.RNN, pytorch.rnn(), 1)
    step = lambda x, h: (jnp.tanh(x @ params["w_x"] + h @ params["w_h"] + params["b"]),)  # noqa: E731
    close(_steps(step, x, 4), expected)


def test_lstm_gates_and_biases(x64):
    params, x, expected = _recurrent(torch.nn.LSTM, pytorch.lstm(), 4)

    def step(x, h, c):
        i, f, g, o = jnp.split(x @ params["w_x"] + h @ params["w_h"] + params["b"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    close(_steps(step, x, 4, jnp.zeros((2, 4))), expected)


def test_gru_gates_complement_and_biases(x64):
    params, x, expected = _recurrent(torch.nn.GRU, pytorch.gru(), 3, {"b_h": (4,)}.items())

    def step(x, h):
        a_z, a_r, a_n = jnp.split(x @ params["w_x"] + params["b"], 3, axis=-1)
        q_z, q_r, q_n = jnp.split(h @ params["w_h"], 3, axis=-1)
        z, r = jax.nn.sigmoid(a_z + q_z), jax.nn.sigmoid(a_r + q_r)
        return ((1 - z) * h + z * jnp.tanh(a_n + r * (q_n + params["b_h"])),)

    close(_steps(step, x, 4), expected)


def test_the_layers_and_directions_of_a_recurrent_network_have_names_of_their_own(x64):
    _, arrays = state_dict(torch.nn.GRU(3, 4, num_layers=2, bidirectional=True))
    names = {}
    for layer in (0, 1):
        for reverse in (False, True):
            names |= under(pytorch.gru(layer, reverse=reverse), path=f"{layer}/{'backward' if reverse else 'forward'}")
    one = lambda n: {"w_x": (n, 12), "w_h": (4, 12), "b": (12,), "b_h": (4,)}  # noqa: E731
    like = [
        {way: {k: jax.ShapeDtypeStruct(s, jnp.float64) for k, s in one(n).items()} for way in ("forward", "backward")}
        for n in (3, 8)
    ]
    params, _ = import_state(arrays, like, (), names)
    np.testing.assert_array_equal(
        params[1]["backward"]["w_x"][:, 4:8], np.asarray(arrays["weight_ih_l1_reverse"])[:4].T
    )


def test_attention_projections(x64):
    module, arrays = state_dict(torch.nn.MultiheadAttention(6, 2, batch_first=True))
    linear = {"w": jax.ShapeDtypeStruct((6, 6), jnp.float64), "b": jax.ShapeDtypeStruct((6,), jnp.float64)}
    like = dict.fromkeys(("query", "key", "value", "output"), linear)
    names = pytorch.multi_head_attention(("query", "key", "value"), "output")
    params, _ = import_state(arrays, like, (), names)
    x = RNG.normal(size=(2, 5, 6))
    q, k, v = (ops.linear(x, *map(params[name].get, "wb")).reshape(2, 5, 2, 3) for name in ("query", "key", "value"))
    p = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(3))
    heads = jnp.einsum("bhts,bshd->bthd", p, v).reshape(2, 5, 6)
    close(ops.linear(heads, *map(params["output"].get, "wb")), module(*[torch.tensor(x)] * 3)[0])
    same(export_state(params, (), names), arrays)


def test_embedding_and_layer_norm(x64):
    _, arrays = state_dict(torch.nn.ModuleDict({"wte": torch.nn.Embedding(7, 4), "ln": torch.nn.LayerNorm(4)}))
    names = under(pytorch.embedding(), "wte.", "embed") | under(pytorch.norm(), "ln.", "norm")
    array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float64)  # noqa: E731
    like = {"embed": {"table": array(7, 4)}, "norm": {"scale": array(4), "bias": array(4)}}
    params, _ = import_state(arrays, like, (), names)
    np.testing.assert_array_equal(params["embed"]["table"], np.asarray(arrays["wte.weight"]))
    same(export_state(params, (), names), arrays)


def test_blocks_by_number_go_to_stacked_leaves_and_to_numbered_ones():
    arrays = {f"h.{i}.attn.{j}.c": np.full((2, 6), 10 * i + j, np.float32) for i in range(3) for j in range(2)}
    arrays |= {f"h.{i}.mask": np.ones(3) for i in range(3)} | {"wte": np.zeros((3, 2), np.float16)}
    shared = {"h.{i}.mask": ignored, "wte": "wte"}
    split = Split(3, axis=1)
    zeros = lambda *shape: jnp.zeros(shape)  # noqa: E731
    like = {"wte": zeros(3, 2), "h": {name: zeros(3, 2, 2, 2) for name in "qkv"}}
    stacked, _ = import_state(arrays, like, (), shared | {"h.{i}.attn.{j}.c": To(("h/q", "h/k", "h/v"), split)})
    assert stacked["h"]["q"][:, :, 0, 0].tolist() == [[0, 1], [10, 11], [20, 21]]
    assert stacked["wte"].dtype == jnp.float32
    like = {"wte": zeros(3, 2), "h": [{name: zeros(2, 2, 2) for name in "qkv"} for _ in range(3)]}
    names = shared | {"h.{i}.attn.{j}.c": To([f"h/{{i}}/{name}" for name in "qkv"], split)}
    unrolled, _ = import_state(arrays, like, (), names)
    assert unrolled["h"][2]["k"][:, 0, 0].tolist() == [20, 21]
    exported = export_state(unrolled, (), names)
    same(exported, {name: array for name, array in arrays.items() if "mask" not in name})


def test_every_mismatch_is_listed_at_once():
    model = nn.Serial(a=nn.Linear(3), b=nn.Repeat(nn.Linear(3), 2), c=nn.Linear(3))
    params, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 3), jnp.float32))
    names = {
        "a.weight": To("a/w", transpose),
        "a.bias": "a/b",
        "b.{i}.weight": To("b/w", transpose),
        "b.{i}.bias": "b/b",
        "c.weight": To("c/weight", transpose),
        "also": "a/b",
    }
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    arrays = {
        "a.weight": zeros(3),
        "a.bias": np.zeros(3, np.int32),
        "b.0.weight": zeros(3, 3),
        "b.1.weigth": zeros(3, 3),
        "b.0.bias": zeros(4),
        "b.1.bias": np.full(3, 1e300),
        "rotary": zeros(2),
    }
    with pytest.raises(dlfn.InputError) as caught:
        import_state(arrays, params, state, names)
    lines = str(caught.value).split("\n  ")
    assert lines[0] == f"import_state: {len(lines) - 1} mismatches"
    for expected in (
        r"a\.weight: float32\[3\] does not fit Moved",
        r"a\.bias: int32\[3\] is of another kind, but params a/b is float32\[3\]",
        r"b\.1\.weight: missing; did you mean 'b\.1\.weigth', which no name takes\?",
        r"b\.1\.weigth: no name takes it",
        r"b\.0\.bias: float32\[4\] becomes \[4\], but params b/b\[0\] is float32\[3\]",
        r"b\.1\.bias: float64\[3\] has values out of range, but params b/b\[1\] is float32\[3\]",
        r"c\.weight to params c/weight: there is no such leaf",
        r"also: missing",
        r"params a/b is taken twice: by the names a\.bias and also",
        r"rotary: no name takes it",
        r"no name goes to params c/b",
        r"no name goes to params c/w",
    ):
        assert sum(bool(re.match(expected, line)) for line in lines) == 1, (expected, lines)
    assert len(lines) == 13
    with pytest.raises(dlfn.InputError, match=r"0\.weight: missing\n"):  # and not for want of a near name
        import_state({"extra.weight": zeros(3)}, {"w": zeros(3)}, (), {"0.weight": "w"})
    with pytest.raises(dlfn.InputError, match="export_state: 4 mismatches"):
        export_state(*model.init(jax.random.key(0), zeros(1, 3)), names)


def test_params_are_copies_of_the_arrays():
    array = np.zeros((64, 64), np.float32)
    params, _ = import_state({"w": array}, {"w": array}, (), {"w": "w"})
    array[:] = 1
    assert not params["w"].any()


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: To("w", tree="parameters"), ["'params' or 'state'", "'parameters'"]),
        (lambda: import_state({}, {"b": 1.0}, (), {"x": To("b", weights.Summed())}), ["Summed", "2 names to 1 paths"]),
        (
            lambda: import_state(torch.nn.Linear(2, 3), (), (), {}),
            ["arrays is of type Linear", "pass its state_dict()"],
        ),
        (lambda: torch_names(torch.nn.Linear(2, 3)), ["model is a Linear", "Layer"]),
        (lambda: export_state({"a": {"b": 1}, "a/b": 2}, (), {}), ["'a/b'", "slash"]),
        (lambda: export_state({"a": jax.random.key(0)}, (), {"a": "a"}), ["plain arrays", "key"]),
    ],
)
def test_mistakes_are_named(mistake, parts):
    with pytest.raises(dlfn.InputError) as caught:
        mistake()
    for part in parts:
        assert part in str(caught.value)


def test_tensors_of_pytorch_in_bfloat16_keep_their_values():
    tensor = torch.randn(5, 3, requires_grad=True)
    like = {"w": jax.ShapeDtypeStruct((3, 5), jnp.bfloat16)}
    params, _ = import_state({"w": tensor.to(torch.bfloat16)}, like, (), {"w": To("w", transpose)})
    expected = tensor.detach().to(torch.bfloat16).float().numpy().T
    np.testing.assert_array_equal(params["w"].astype(np.float32), expected)
