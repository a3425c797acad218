"""What ops become on accelerators, as far as a CPU can tell: how they are lowered, and what their forms compute."""

import re
import types

import jax
import jax.numpy as jnp
import pytest

import dlfn
from dlfn import nn, ops
from dlfn.core import _jax
from dlfn.core.platforms import ByPlatform
from dlfn.registry.gradients import check_case
from helpers import over_cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

S = jax.ShapeDtypeStruct
HALF = jnp.bfloat16


def lowered(f, platform, *args):
    return jax.jit(f).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def gradient(f):
    """Value and gradients in all floating-point arguments."""

    def of(*args):
        moving = [i for i, x in enumerate(args) if x is not None and jnp.issubdtype(x.dtype, jnp.floating)]
        loss = lambda *args: sum(jnp.sum(y.astype(jnp.float32)) for y in jax.tree.leaves(f(*args)))  # noqa: E731
        return jax.value_and_grad(loss, moving)(*args)

    return of


def products(text):
    """The element types of every product's and convolution's operands and result."""
    return set(
        re.findall(
            r"stablehlo\.(dot_general|convolution)\b.*: "
            r"\(tensor<(?:\d+x)*(\w+)>, tensor<(?:\d+x)*(\w+)>\) -> tensor<(?:\d+x)*(\w+)>",
            text,
        )
    )


# Decompositions and their products have no use for half types; sums along rows are exact in float32 alone.
IN_FLOAT32 = {"eigh", "matrix_function", "inverse", "solve", "spectral_quotient", "rms_norm"}


@over_cases(ordinary=lambda entry, case: case is entry.cases[0], among=lambda entry, case: not entry.elementwise)
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_products_are_of_half_types_and_nothing_is_held_back(entry, case, platform):
    args = case.make((4,), "bfloat16", 0)
    text = lowered(gradient(lambda *args: entry.op(*args, **case.static)), platform, *args)
    found = products(text)
    assert entry.op.name in IN_FLOAT32 or not [kinds for kinds in found if "f32" in kinds[1:3]]
    if platform == "cuda":  # where XLA casts the operands of a convolution to the type of its result
        assert {result for name, *_, result in found if name == "convolution"} <= {"bf16"}
    assert "optimization_barrier" not in text


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_attention_has_no_serial_steps_up_to_2048_queries(platform, causal):
    q = S((1, 2048, 2, 64), HALF)
    text = lowered(gradient(lambda *args: ops.attention(*args, causal=causal)), platform, q, q, q)
    assert "stablehlo.while" not in text
    assert "stablehlo.while" in lowered(ops.attention, platform, *[S((1, 16384, 2, 64), HALF)] * 3)


# cuDNN. A host without a GPU lowers its calls if it is made to believe that cuDNN is there.

CALLS = ["__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"]


@pytest.fixture
def with_cudnn(monkeypatch):
    """For arguments of shapes that no other test has, as programs are kept."""
    monkeypatch.setattr(_jax.cudnn, "cuda_versions", types.SimpleNamespace(cudnn_get_version=lambda: 91300))
    monkeypatch.setattr(_jax.cudnn, "check_compute_capability", lambda capability: True)


def calls(text):
    return sorted(set(re.findall(r"custom_call @([\w$]+)", text)) & set(CALLS))


def heads(*lead, steps=24, n=4, dim=16, dtype=HALF):
    return S((*lead, steps, n, dim), dtype)


causal = gradient(lambda q, k, v: ops.attention(q, k, v, causal=True))


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (causal, (heads(2), heads(2, n=2), heads(2, n=2))),
        (gradient(ops.attention), (heads(2), heads(2, steps=40), heads(2, steps=40))),
        (causal, (heads(), heads(), heads())),
        (causal, (heads(2, 3), heads(2, 3), heads(2, 3))),
        (jax.vmap(causal), (heads(3, 2), heads(3, 2), heads(3, 2))),
        (jax.vmap(causal, (0, None, None)), (heads(3, 2), heads(2), heads(2))),
        (jax.vmap(jax.vmap(causal, (0, None, 0)), (None, 0, 0)), (heads(3, 2), heads(5, 2), heads(5, 3, 2))),
        (jax.vmap(causal, 2), (heads(2, 3), heads(2, 3), heads(2, 3))),
        (jax.checkpoint(causal), (heads(2), heads(2), heads(2))),
        (lambda *args: jax.jvp(causal, args, args), (heads(2), heads(2), heads(2))),
        (dlfn.backprop(lambda *args: jnp.sum(ops.attention(*args).astype(jnp.float32))), (heads(2),) * 3),
        (causal, (heads(2, dtype=jnp.float16),) * 3),
    ],
    ids=["grouped", "more keys", "no batch", "two axes", "vmap", "vmap of q", "vmaps", "inner axis", "checkpoint",
         "jvp", "backprop", "float16"],
)  # fmt: skip
def test_attention_by_cudnn(with_cudnn, f, args):
    assert calls(lowered(f, "cuda", *args)) == CALLS
    assert calls(lowered(f, "tpu", *args)) == []


MASK = S((24, 24), bool)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (causal, (heads(2, dtype=jnp.float32),) * 3),
        (causal, (heads(2), heads(2, steps=40), heads(2, steps=40))),  # which it aligns at the first key
        (causal, (heads(2, dim=12),) * 3),
        (causal, (heads(2), heads(2), heads(2, dim=24))),
        (gradient(lambda q, k, v, mask: ops.attention(q, k, v, None, mask)), (*[heads(2)] * 3, MASK)),
        (gradient(ops.attention), (*[heads(2)] * 3, S((24, 24), HALF))),
        (causal, (heads(0),) * 3),
    ],
    ids=["float32", "more keys", "dim", "values", "mask", "bias", "empty"],
)
def test_what_cudnn_does_not_compute_as_defined_is_computed_in_blocks(with_cudnn, f, args):
    assert calls(lowered(f, "cuda", *args)) == []


def test_one_artefact_for_three_platforms(with_cudnn):
    allowed = [jax.export.DisabledSafetyCheck.custom_call(name) for name in CALLS]
    exported = jax.export.export(jax.jit(causal), platforms=["cpu", "cuda", "tpu"], disabled_checks=allowed)
    assert calls(exported(*[heads(7)] * 3).mlir_module()) == CALLS


# What the forms compute, on a CPU.


@pytest.fixture
def as_on(monkeypatch):
    """Programs for the CPU take a platform's forms. The setting of products, which is none on a CPU, keeps them apart
    from programs compiled before and afterwards."""
    forms = ByPlatform.forms

    def begin(platform):
        monkeypatch.setattr(ByPlatform, "forms", lambda self, _: forms(self, platform))

    with jax.default_matmul_precision("tensorfloat32"):
        yield begin


WITH_FORMS = {
    "attention", "conv", "conv_transpose", "gru", "gru_step", "info_nce", "kl_divergence", "layer_norm",
    "linear_cross_entropy", "lstm", "lstm_step", "normal_kl", "prelu", "rnn", "rnn_step", "softmax_cross_entropy",
    "softmax_focal_loss",
}  # fmt: skip


def worth_it(entry, case):
    return case in entry.cases[:2] and entry.op.name in {"attention", "linear_cross_entropy", "lstm", "gru", "info_nce"}


@over_cases(ordinary=worth_it, among=lambda entry, case: entry.op.name in WITH_FORMS)
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.exhaustive), "float64"])
def test_gradients_by_the_forms_for_accelerators(as_on, entry, case, dtype):
    as_on("cuda")  # without cuDNN
    results = list(check_case(entry, case, dtype, paths=("hand",), platform="gpu"))
    assert results
    assert [result for result in results if not result.ok] == []


def test_the_forms_are_others_on_a_cpu(as_on):
    q = jnp.ones((1, 600, 1, 8), HALF)
    as_on("tpu")
    text = jax.jit(lambda q: ops.attention(q, q, q)).lower(q).as_text()
    assert products(text) == {("dot_general", "bf16", "bf16", "f32")}


def test_a_layer_of_all_of_them():
    """A transformer block of half-type parameters has no product in float32, forward or backward."""
    model = nn.TransformerBlock(4, causal=True, positions="rope", activation="swiglu")
    x = S((2, 64, 32), HALF)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda p: S(p.shape, HALF), params))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
    loss = gradient(lambda x, *leaves: model.apply(tree.unflatten(leaves), zeros, x)[0])
    for platform in ("cuda", "tpu"):
        assert products(lowered(loss, platform, x, *leaves)) == {("dot_general", "bf16", "bf16", "f32")}
