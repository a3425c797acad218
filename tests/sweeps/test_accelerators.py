"""What ops become on accelerators, as far as a CPU can tell: how they are lowered, and what their forms compute."""

import contextlib
import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.interpreters import mlir
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import dlfn
from dlfn import nn, ops
from dlfn.core.platforms import ByPlatform
from dlfn.registry.gradients import check_case, has_forms
from helpers import ENTRIES, first_case_of, over_cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

S = jax.ShapeDtypeStruct
HALF = jnp.bfloat16


def lowered(f, platform, *args):
    return as_text(jax.jit(f).trace(*args), platform)


def as_text(traced, platform):
    return traced.lower(lowering_platforms=(platform,)).as_text()


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


WITH_FORMS = {
    "attention", "batch_norm", "conv", "conv_transpose", "group_norm", "gru", "gru_step", "info_nce", "instance_norm",
    "kl_divergence", "layer_norm", "linear_cross_entropy", "lstm", "lstm_step", "normal_kl", "prelu", "rms_norm", "rnn",
    "rnn_step", "softmax", "softmax_cross_entropy", "softmax_focal_loss", "std", "variance",
}  # fmt: skip

# Decompositions and their products have no use for half types; sums along rows are exact in float32 alone.
IN_FLOAT32 = {"eigh", "matrix_function", "inverse", "solve", "spectral_quotient", "rms_norm"}


@over_cases(ordinary=first_case_of(WITH_FORMS | {"linear", "matmul"}), among=lambda entry, case: not entry.elementwise)
def test_products_are_of_half_types_and_nothing_is_held_back(entry, case):
    args = case.make((4,), "bfloat16", 0)
    traced = jax.jit(gradient(lambda *args: entry.op(*args, **case.static))).trace(*args)
    for platform in ("cuda", "tpu"):
        text = as_text(traced, platform)
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
    monkeypatch.setattr(cudnn, "cuda_versions", types.SimpleNamespace(cudnn_get_version=lambda: 91300))
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: False)


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
    forms, kept = ByPlatform.forms, {"cuda": "tensorfloat32", "tpu": "high"}
    with contextlib.ExitStack() as stack:

        def begin(platform):
            monkeypatch.setattr(ByPlatform, "forms", lambda self, _, whole: forms(self, platform, whole))
            stack.enter_context(jax.default_matmul_precision(kept[platform]))

        yield begin


def test_all_ops_with_forms_are_swept():
    found = {entry.op.name for entry in ENTRIES if has_forms(entry)}
    assert "attention" in found
    assert found <= WITH_FORMS


LARGE = {"attention", "linear_cross_entropy", "lstm", "info_nce"}


@over_cases(ordinary=first_case_of(LARGE), among=lambda entry, case: entry.op.name in WITH_FORMS)
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.exhaustive), "float64"])
def test_gradients_by_the_forms_for_accelerators(as_on, entry, case, dtype):
    as_on("cuda")  # without cuDNN
    results = list(check_case(entry, case, dtype, paths=("hand",), platform="gpu"))
    assert results
    assert [result for result in results if not result.ok] == []


def test_softmax_of_infinite_entries(as_on):
    x = jnp.array([[jnp.inf, 1, jnp.inf], [-jnp.inf, 0, 0], [-jnp.inf] * 3, [jnp.inf, -jnp.inf, 3e38], [jnp.nan, 0, 1]])
    expected = jax.jit(ops.softmax)(x)
    as_on("cuda")
    np.testing.assert_array_equal(jax.jit(ops.softmax)(x), expected)
    np.testing.assert_array_equal(jax.jit(ops.softmax)(x[:, :0]), expected[:, :0])


@pytest.fixture
def cudnn_on_a_cpu(with_cudnn, as_on):
    """Its kernels in plain JAX, so that all that is around them runs."""

    def probabilities(q, k, scale, mask_type):
        s = jnp.einsum("bqhd,bkhd->bhqk", q, jnp.repeat(k, q.shape[2] // k.shape[2], 2)).astype(jnp.float32) * scale
        s = jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -jnp.inf) if "CAUSAL" in str(mask_type) else s
        logarithms = jax.nn.logsumexp(s, -1)
        return jnp.exp(s - logarithms[..., None]), logarithms

    def forward(q, k, v, *_, scale, mask_type, **settings):
        p, logarithms = probabilities(q, k, scale, mask_type)
        y = jnp.einsum("bhqk,bkhd->bqhd", p, jnp.repeat(v, q.shape[2] // v.shape[2], 2))
        return [y.astype(q.dtype), logarithms]

    def backward(q, k, v, *rest, scale, mask_type, **settings):
        *_, logarithms, _, dy = rest
        _, own = probabilities(q, k, scale, mask_type)
        # The weights are those of the logarithms that are given, as a kernel's are.
        dy = dy.astype(jnp.float32) * jnp.swapaxes(jnp.exp(own - logarithms)[..., None], 1, 2)
        plain = functools.partial(forward, scale=scale, mask_type=mask_type)
        return list(jax.vjp(lambda q, k, v: plain(q, k, v)[0].astype(jnp.float32), q, k, v)[1](dy))

    kernels = {cudnn._dot_product_attention_fwd_p: forward, cudnn._dot_product_attention_bwd_p: backward}
    for primitive, rule in kernels.items():
        mlir.register_lowering(primitive, mlir.lower_fun(rule, multiple_results=True), platform="cpu")
    as_on("cuda")


def test_second_derivatives_mix_forms(cudnn_on_a_cpu):
    """The residuals are cuDNN's, and their tangents those of blocks."""
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.normal(size=(2, 19, n, 16)), HALF) for n in (4, 2, 2)]
    tangents = [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in args]

    def hessian_times(f, args, tangents):
        loss = lambda *args: jnp.sum(jnp.sin(f(*args, causal=True).astype(jnp.float32)))  # noqa: E731
        return jax.jit(lambda args, tangents: jax.jvp(jax.grad(loss, (0, 1, 2)), args, tangents)[1])(args, tangents)

    assert calls(lowered(causal, "cuda", *args)) == CALLS
    found = hessian_times(ops.attention, tuple(args), tuple(tangents))
    wide = [tuple(x.astype(jnp.float32) for x in xs) for xs in (args, tangents)]
    for a, b in zip(found, hessian_times(ops.attention.definition, *wide), strict=True):
        assert jnp.linalg.norm(a.astype(jnp.float32) - b) < 0.02 * jnp.linalg.norm(b)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_programs_over_several_devices_are_not_cudnns(cudnn_on_a_cpu, kind):
    """XLA cannot partition a call; inside shard_map there is nothing to partition."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,))
    q = jax.device_put(jnp.ones((2, 28, 4, 16), HALF), NamedSharding(mesh, PartitionSpec("d")))
    assert calls(lowered(causal, "cuda", q, q, q)) == []
    inside = jax.shard_map(lambda q: ops.attention(q, q, q, causal=True), in_specs=PartitionSpec("d"),
                           out_specs=PartitionSpec("d"), mesh=mesh)  # fmt: skip
    assert calls(lowered(inside, "cuda", q)) == CALLS[:1]


def test_arrays_of_no_fixed_size_are_computed_in_blocks(with_cudnn):
    (b,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(causal), platforms=["cuda"])(*[heads(b, steps=32)] * 3)
    assert calls(exported.mlir_module()) == []
    assert calls(lowered(jax.vmap(causal), "cuda", *[heads(0, 2)] * 3)) == []


def test_programs_are_lowered_for_meshes_without_devices():
    mesh = jax.sharding.AbstractMesh((2,), ("d",))
    x = S((4, 6), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("d")))
    for platform in ("cpu", "cuda", "tpu"):
        assert "stablehlo" in lowered(gradient(ops.softmax), platform, x)


def test_recurrences_of_any_length():
    (t,) = jax.export.symbolic_shape("t")
    weights = S((3, 16), HALF), S((4, 16), HALF)
    of_sequence = gradient(lambda x, *weights: ops.lstm(x, None, None, *weights)[0])
    exported = jax.export.export(jax.jit(of_sequence), platforms=["cpu", "cuda", "tpu"])(S((2, t, 3), HALF), *weights)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_a_step_without_a_batch_multiplies_half_types():
    step = gradient(lambda x, *weights: ops.lstm_step(x, None, None, *weights)[0])
    text = lowered(step, "tpu", S((3,), HALF), S((3, 16), HALF), S((4, 16), HALF), S((16,), HALF))
    assert products(text) == {("dot_general", "bf16", "bf16", "f32")}


def test_float16_attention_does_not_overflow_where_its_gradients_do_not(as_on):
    as_on("tpu")
    q, dy = jnp.full((6, 1, 8), 0.01, jnp.float16), jnp.full((6, 1, 8), 1e3, jnp.float16)
    v = 300 * jnp.cos(jnp.arange(48.0)).reshape(6, 1, 8).astype(jnp.float16)
    gradients = jax.jit(lambda q, k, v, dy: jax.vjp(ops.attention, q, k, v)[1](dy))(q, q, v, dy)
    assert all(bool(jnp.isfinite(g).all()) for g in gradients)


LENGTHS = [(600, 100, None), (4, 4, 1), (9, 3, 2)]


@pytest.mark.parametrize(
    ("platform", "queries", "keys", "block"),
    [
        pytest.param(platform, *lengths, marks=[pytest.mark.exhaustive] * ((platform == "tpu") != (lengths[0] == 600)))
        for platform in ("cpu", "tpu")
        for lengths in LENGTHS
    ],
)
def test_the_gradient_of_a_bias_where_the_first_queries_see_one_key_or_none(as_on, platform, queries, keys, block):
    if platform != "cpu":
        as_on(platform)
    q, k = jnp.ones((queries, 1, 4)), jnp.ones((keys, 1, 4))
    bias = jnp.cos(jnp.arange(float(queries * keys))).reshape(queries, keys)

    def gradient_of(f):  # of the queries that see a key, as the definition has nan for the others
        return jax.jit(jax.grad(lambda b: jnp.sum(jnp.sin(f(q, k, jnp.cos(k), b, causal=True)[queries - keys :]))))(
            bias
        )

    ours, expected = map(gradient_of, (functools.partial(ops.attention, block=block), ops.attention.definition))
    seen = slice(queries - keys, None)
    np.testing.assert_allclose(ours[seen], expected[seen], atol=1e-5)
    assert not np.any(ours[: queries - keys])


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
