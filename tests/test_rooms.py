"""The rooms of the house: which may import which, what `import dlfn` loads, and which names are public."""

import ast
import functools
from pathlib import Path

import pytest

import dlfn
from helpers import fresh_interpreter

PACKAGE = Path(dlfn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Every room and those that it may import; ops and nn are what they offer to all. Every room may import `files` and
# `_suggest`, which import none.
BASE = {"_suggest", "files"}
OPS_SUPPORT = {"core", "ops.support"}
MAY_IMPORT = {
    "_suggest": set(),
    "files": set(),
    "markup": set(),
    "core": set(),
    "check": {"core"},
    "bench": {"core"},
    "explain": {"check", "core", "markup", "train"},
    "testing": {"check", "core"},
    "calculus": {"core"},
    "optimizers": {"core"},
    "ops.support": {"core"},
    "ops.activations": OPS_SUPPORT,
    "ops.elementary": OPS_SUPPORT,
    "ops.linear_algebra": OPS_SUPPORT,
    "ops.spatial": OPS_SUPPORT,
    "ops.normalisation": OPS_SUPPORT,
    "ops.recurrent": OPS_SUPPORT,
    "ops.transformer": OPS_SUPPORT,
    "ops.losses": OPS_SUPPORT | {"ops.linear_algebra"},
    "ops.probability": OPS_SUPPORT | {"ops.activations"},
    # Its face: all families, and no support.
    "ops": {
        "ops.activations", "ops.elementary", "ops.linear_algebra", "ops.losses", "ops.normalisation",
        "ops.probability", "ops.recurrent", "ops.spatial", "ops.transformer",
    },
    "nn": {"core", "ops", "ops.recurrent", "ops.spatial", "ops.support"},
    "probability": {"core", "ops", "ops.probability", "ops.support"},
    "statistics": {"core", "ops", "ops.probability", "ops.support"},
    "linalg": {"core", "ops", "ops.linear_algebra", "ops.support"},
    "augmentation": {"core", "linalg", "ops", "ops.support"},
    "linear_models": {"core", "ops", "ops.support"},
    "weights": {"core", "nn"},
    "registry": {"bench", "check", "core", "nn", "ops"},
    "catalogue": {
        "augmentation", "calculus", "check", "core", "dlfn", "linalg", "linear_models", "nn", "ops", "optimizers",
        "probability", "registry", "statistics", "train",
    },
    "train": {"augmentation", "check", "core", "dlfn", "explain", "markup", "nn", "ops", "weights"},
    "cli": {"core"},
    "__main__": {"cli"},
    "dlfn": {"check", "core", "explain"},
}  # fmt: skip

# What none but core/_jax.py may touch of JAX.
CORNERS = ("get_bind_params", "call_wrapped", "out_trees", "jvp_jaxpr_fun", "source_info", "manager", "mat", "varying")

PUBLIC = {
    "dlfn": """
    GradientError InputError Op audit autodiff backprop backprop_value_and_grad backprop_vjp compare explain
    from_vjp nn ops register_rule why
    """,
    "dlfn.ops": """
    adaptive_avg_pool adaptive_max_pool alibi_bias alibi_slopes atan2 attention avg_pool batch_norm
    batch_norm_inference bernoulli_log_prob binary_cross_entropy binary_focal_loss binomial_log_prob celu
    conditional_entropy conv conv_output_size conv_transpose cosine_similarity covariance cross_entropy ctc_loss dot
    dropout eigh elu embedding entropy entropy_from_logits exponential_log_prob flip_kernel geglu gelu global_avg_pool
    global_norm glu group_norm gru gru_step hard_sigmoid hard_swish hard_tanh hinge huber hypot info_nce instance_norm
    inverse kl_divergence l1_penalty l2_penalty layer_norm leaky_relu linear linear_cross_entropy log_cosh log_sigmoid
    log_softmax logsumexp lstm lstm_step mae matmul matrix_function max_pool mean mish mse mutual_information norm
    normal_kl normal_log_prob poisson_log_prob power prelu relative_entropy relu relu6 rms_norm rnn rnn_step rope selu
    sigmoid silu sinusoidal_positions softmax softmax_cross_entropy softmax_focal_loss softmax_jacobian softplus
    softsign solve spectral_norm spectral_quotient sqrt squareplus std swiglu tanh uniform_log_prob variance
    weight_norm xlogy
    """,
    "dlfn.nn": """
    ACTIVATIONS Activation AdaptiveAvgPool AdaptiveMaxPool AvgPool BatchNorm BayesianLinear Bidirectional CELU Cell
    Checkpointed ClassToken Conv ConvTranspose DepthwiseConv DropConnect Dropout ELU Embedding FeedForward Flatten GATED
    GEGLU GELU GLU GRU GRUCell Gated GlobalAvgPool GlobalMaxPool GroupNorm HardSigmoid HardSwish HardTanh InstanceNorm
    LSTM LSTMCell Layer LayerNorm LeakyReLU LearnedPositions Linear LinearScaling Llama3Scaling LogSigmoid LogSoftmax
    MaxPool Mish MultiHeadAttention PReLU Parallel Permute RMSNorm RNN RNNCell ReLU ReLU6 Recurrent Repeat Residual Rope
    RopeScaling SELU Sequence Serial SiLU Sigmoid SinusoidalPositions Softmax Softplus Softsign SpatialDropout
    SpectralNorm Squareplus Stacked SwiGLU TakeStep Tanh Tied TransformerBlock WeightNorm YarnScaling Zoneout
    count_flops count_parameters generate initializers mlp models summary
    """,
    "dlfn.weights": """
    Equal Flattened GRUBias GRUWeight Joined Names Pretrained Rule Split Squeezed Summed Tied To Unsqueezed export_state
    from_pretrained identity ignored import_state kernel load_metadata load_params load_safetensors maps
    open_safetensors pytorch renamed rules save_params save_pretrained save_safetensors torch_names transpose
    transposed_kernel under
    """,
}


def module(path):
    """("dlfn", "ops", "losses", "focal")"""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room(parts):
    """The room of a dotted name, given by its parts: ops.losses, ops for what is public in dlfn.ops, nn, cli, dlfn."""
    if len(parts) > 2 and parts[1] == "ops" and (PACKAGE / "ops" / parts[2]).is_dir():
        return f"ops.{parts[2]}"
    at_top = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists())
    return parts[1] if at_top else "dlfn"


@functools.cache
def imports(path):
    """What a file imports of dlfn, as parts of dotted names, but not what it does for type checkers alone."""
    return list(_imports(path))


def _imports(path):
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dlfn":
            yield from ((*node.module.split("."), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")) for a in node.names if a.name.split(".")[0] == "dlfn")


@functools.cache
def edges():
    """The file, its room, what it imports and the room of that, for every import of another room."""
    found = [(path, room(module(path)), name, room(name)) for path in FILES for name in imports(path)]
    return [edge for edge in found if edge[1] != edge[3]]


def test_rooms_import_what_they_may():
    for path, here, name, there in edges():
        assert there in MAY_IMPORT[here] | BASE, f"{path} imports {'.'.join(name)}, and {here} may not import {there}"


def test_rooms_that_may_import_another_do():
    """The table is no wider than the imports."""
    used = {(here, there) for _, here, _, there in edges()}
    unused = [(here, there) for here, rooms in MAY_IMPORT.items() for there in rooms if (here, there) not in used]
    assert not unused


def test_no_room_imports_what_is_private_to_another():
    for path, here, name, there in edges():
        private = [part for part in name if part.startswith("_") and part != "_suggest"]
        assert not private, f"{path}, of {here}, imports {'.'.join(name)} of {there}"


def test_imports_make_no_circle():
    """Of files, each with those that it imports; and so none of rooms."""
    by_name = {module(path): path for path in FILES}
    below = {}
    for path in FILES:
        found = [name if name in by_name else name[:-1] for name in imports(path)]
        below[module(path)] = {name for name in found if name in by_name and name != module(path)}
    while free := [name for name, others in below.items() if not others]:
        for name in free:
            del below[name]
        below = {name: others - set(free) for name, others in below.items()}
    assert not below, f"a circle among {sorted('.'.join(name) for name in below)}"


def test_no_file_is_hidden_by_a_function_of_its_name():
    for path in FILES:
        if path.name == "__init__.py":
            bound = {name[-1] for name in imports(path)}
            files = {p.stem for p in path.parent.iterdir()}
            modules = {name[-1] for name in imports(path) if name[:-1] == module(path)}
            # dlfn.explain is a function; what else is in its room is imported from dlfn.explain.
            assert not bound & files - modules - {"explain"}, path


def test_corners_of_jax_are_in_one_file():
    for path in FILES:
        if path != PACKAGE / "core" / "_jax.py":
            attributes = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
            assert not attributes & set(CORNERS), path


def test_cases_stand_in_the_room_and_file_of_their_op():
    from dlfn.registry import all as registry

    files = {
        name[-1]: PACKAGE.joinpath("registry", "cases", *name[2:-1]).with_suffix(".py")
        for name in imports(PACKAGE / "ops" / "__init__.py")
    }
    for entry in registry.entries():
        if entry.op.name in files:
            path = files[entry.op.name]
            assert path.exists(), path
            assert f"ops.{entry.op.name}" in path.read_text(), path


def test_importing_dlfn_loads_no_op():
    code = "import sys, dlfn; print(*[name for name in sys.modules if name.startswith('dlfn.')])"
    loaded = {room(tuple(name.split("."))) for name in fresh_interpreter(code).split()}
    assert loaded <= {"dlfn", "core", "check", "explain", *BASE}


def test_rooms_are_attributes_that_load_on_first_use():
    code = "import dlfn; print('train' in dir(dlfn), dlfn.ops.tanh.name, dlfn.nn.Linear.__name__)"
    assert fresh_interpreter(code).split() == ["True", "tanh", "Linear"]
    with pytest.raises(AttributeError, match="module 'dlfn' has no attribute 'opps'"):
        dlfn.opps  # noqa: B018


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_stay(name):
    """A name that goes breaks someone's code: it is deprecated first. One that comes is added here."""
    found = dlfn
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert sorted(found.__all__) == sorted(PUBLIC[name].split()), "PUBLIC above lists the public names"
    assert all(hasattr(found, public) for public in found.__all__)
