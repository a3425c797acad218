"""Rules between several arrays and leaves: what comes in goes out again, and against PyTorch's gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn
from dlfn.weights import (
    Equal,
    Joined,
    Split,
    Squeezed,
    Summed,
    Tied,
    To,
    Unsqueezed,
    export_state,
    identity,
    import_state,
    kernel,
    pytorch,
    torch_names,
    transpose,
    under,
)
from torch_modules import close, same, state_dict

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)

# Names, and the shapes of arrays and leaves.
MAPS = {
    "joined": ({("up", "gate"): To("w", Joined(2, then=transpose))}, {"up": (4, 3), "gate": (4, 3)}, {"w": (3, 8)}),
    "joined, unequal": ({("q", "kv"): To("w", Joined((4, 2), 1))}, {"q": (3, 4), "kv": (3, 2)}, {"w": (3, 6)}),
    "split, unequal": ({"qkv": To(["q", "k"], Split((4, 2)))}, {"qkv": (6, 3)}, {"q": (4, 3), "k": (2, 3)}),
    "tied": ({"wte": To(["in", "out"], Tied(identity, transpose))}, {"wte": (5, 3)}, {"in": (5, 3), "out": (3, 5)}),
    "squeezed": ({"pos_embed": To("p", Squeezed(0))}, {"pos_embed": (1, 5, 3)}, {"p": (5, 3)}),
    "token and positions": (
        {"pos_embed": To(["token", "p"], Split((1, 4), 1, Squeezed(0)))}, {"pos_embed": (1, 5, 3)},
        {"token": (1, 3), "p": (4, 3)},
    ),
    "unsqueezed": ({"fc": To("k", Unsqueezed((2, 3), kernel))}, {"fc": (4, 3)}, {"k": (1, 1, 3, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("case", MAPS)
def test_what_comes_in_goes_out_byte_for_byte(case, dtype):
    names, shapes, like = MAPS[case]
    arrays = {name: (100 * RNG.normal(size=shape)).astype(jnp.dtype(dtype)) for name, shape in shapes.items()}
    params, _ = import_state(
        arrays, {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in like.items()}, (), names
    )
    assert {name: leaf.shape for name, leaf in params.items()} == like
    exported = export_state(params, (), names)
    assert {name: array.tobytes() for name, array in exported.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert {name: array.shape for name, array in exported.items()} == shapes


def test_blocks_are_joined_into_stacked_leaves():
    arrays = {f"h.{i}.{name}": RNG.normal(size=(4, 3)) for i in range(2) for name in ("up", "gate")}
    names = {("h.{i}.up", "h.{i}.gate"): To("h/w", Joined(2, then=transpose))}
    params, _ = import_state(arrays, {"h": {"w": np.zeros((2, 3, 8))}}, (), names)
    np.testing.assert_array_equal(params["h"]["w"][1, :, 4:], arrays["h.1.gate"].T.astype(np.float32))


class LlamaMLP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = (torch.nn.Linear(3, 6, bias=False) for _ in range(2))
        self.down_proj = torch.nn.Linear(6, 3, bias=False)

    def forward(self, x):
        return self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


def test_a_gated_mlp_has_values_first_and_then_gates(x64):
    module, arrays = state_dict(LlamaMLP())
    layer = nn.FeedForward(2, "swiglu", bias=False)
    names = {
        ("up_proj.weight", "gate_proj.weight"): To("up/w", Joined(2, then=transpose)),
        **under(pytorch.linear(bias=False), "down_proj.", "down"),
    }
    x = RNG.normal(size=(4, 3))
    params, state = import_state(arrays, *jax.eval_shape(layer.init, jax.random.key(0), x), names)
    close(layer.apply(params, state, x)[0], module(torch.tensor(x)))
    same(export_state(params, state, names), arrays)


def test_the_gradient_of_tied_weights_is_the_sum_of_both(x64):
    table = torch.nn.Parameter(torch.randn(7, 3, dtype=torch.float64))
    tokens = torch.tensor([1, 2, 2, 6])
    (torch.nn.functional.embedding(tokens, table) @ table.T).sin().sum().backward()

    names = {"wte": To(["table", "head"], Tied(identity, transpose))}
    like = {"table": jax.ShapeDtypeStruct((7, 3), "float64"), "head": jax.ShapeDtypeStruct((3, 7), "float64")}
    params, _ = import_state({"wte": table}, like, (), names)
    gradients = jax.grad(lambda p: jnp.sum(jnp.sin(p["table"][np.asarray(tokens)] @ p["head"])))(params)
    exported = export_state(gradients, (), names, gradients=True)
    close(exported["wte"], table.grad)
    again = export_state(import_state(exported, like, (), names, gradients=True)[0], (), names, gradients=True)
    close(again["wte"], table.grad)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_both_biases_of_a_recurrent_layer_have_the_gradient_of_pytorch(kind, x64):
    module, arrays = state_dict(getattr(torch.nn, kind)(3, 4, batch_first=True))
    layer = getattr(nn, kind)(4, **({"reset_after": True} if kind == "GRU" else {}))
    x, names = RNG.normal(size=(2, 5, 3)), torch_names(layer)
    module(torch.tensor(x))[0].sin().sum().backward()
    params, state = import_state(arrays, *jax.eval_shape(layer.init, jax.random.key(0), x), names)
    gradients = jax.grad(lambda params: jnp.sum(jnp.sin(layer.apply(params, state, x)[0])))(params)
    exported = export_state(gradients, state, names, gradients=True)
    for name, parameter in module.named_parameters():
        close(exported[name], parameter.grad)
    again, _ = import_state(exported, params, state, names, gradients=True)
    jax.tree.map(np.testing.assert_array_equal, again, gradients)


def test_gradients_of_a_bfloat16_sum_round_once():
    leaves = {name: jnp.full(2, value, jnp.bfloat16) for name, value in (("a", 1), ("b", 2**-8), ("c", 2**-30))}
    exported = export_state(leaves, (), {"w": To(list("abc"), Tied(*[identity] * 3))}, gradients=True)
    assert exported["w"].tolist() == [1 + 2**-7] * 2


def test_leaves_of_one_array_must_be_equal_to_be_saved():
    names = {"wte": To(["table", "head"], Tied(identity, transpose))}
    params = {"table": jnp.ones((5, 3)), "head": jnp.ones((3, 5))}
    export_state(params, (), names)
    params["head"] = params["head"].at[2, 1].set(jnp.nan)
    with pytest.raises(dlfn.InputError, match=r"wte: .* differ \(params table, params head\)"):
        export_state(params, (), names)
    params["table"] = params["table"].at[1, 2].set(jnp.nan)
    assert np.isnan(export_state(params, (), names)["wte"][1, 2])


def test_an_array_that_a_file_has_twice_is_one_leaf():
    names = {("wte", "lm_head"): To("table", Equal(2))}
    table = RNG.normal(size=(5, 3)).astype(np.float32)
    arrays = {"wte": table, "lm_head": table.copy()}
    params, _ = import_state(arrays, {"table": table}, (), names)
    for gradients in (False, True):
        same(export_state(params, (), names, gradients=gradients), arrays)
    arrays["lm_head"][2, 1] += 1
    with pytest.raises(dlfn.InputError, match=r"wte, lm_head: .* they differ, but go to one leaf"):
        import_state(arrays, {"table": table}, (), names)


@pytest.mark.parametrize(
    ("rule", "shapes", "message"),
    [
        (Joined(2), [(4, 3), (5, 3)], r"along axis 0 are \(4, 5\), and must be \(4, 4\)"),
        (Joined((4, 2)), [(2, 3), (4, 3)], r"along axis 0 are \(2, 4\), and must be \(4, 2\)"),
        (Joined(2, axis=1), [(4,), (4,)], "there is no axis 1"),
        (Joined(2), [(4, 3), (4, 2)], "does not fit Joined"),
        (Split((4, 1)), [(6, 3)], "axis 0 has length 6, and must have 4 \\+ 1"),
        (Squeezed(0), [(2, 3)], "does not fit Squeezed"),
        (Squeezed(2), [(1, 3)], "does not fit Squeezed"),
    ],
)
def test_arrays_that_do_not_fit_are_named(rule, shapes, message):
    arrays = {f"a{i}": np.zeros(shape) for i, shape in enumerate(shapes)}
    like = {f"b{i}": np.zeros(3) for i in range(rule.leaves)}
    name = tuple(arrays) if len(arrays) > 1 else "a0"
    with pytest.raises(dlfn.InputError, match=message):
        import_state(arrays, like, (), {name: To(list(like), rule)})


@pytest.mark.parametrize("make", [lambda rule: Split(2, then=rule), lambda rule: Squeezed(0, rule), Tied])
def test_a_rule_inside_a_rule_takes_one_array_to_one_leaf(make, refused):
    refused(lambda: make(Summed()), ["Summed() takes 2 arrays to 1 leaves", "must take one to one"])
