"""What is said of a file that does not fit: few lines that say what is wrong and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn
from dlfn.weights import To, export_state, import_state, load_safetensors, renamed, save_safetensors, torch_names, under
from dlfn.weights.messages import folded


def model(width=4, blocks=6):
    return nn.Serial(embed=nn.Embedding(11, width), h=nn.Repeat(nn.TransformerBlock(2), blocks), head=nn.Linear(7))


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((2, 3), jnp.int32))


def arrays_of(model):
    params, state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes(model))
    return export_state(params, state, torch_names(model))


MODEL, WIDE = model(), model(8)
LIKE, ARRAYS, NAMES = shapes(MODEL), arrays_of(MODEL), torch_names(MODEL)


def complaint(arrays, names=NAMES, like=LIKE):
    with pytest.raises(dlfn.InputError) as caught:
        import_state(arrays, *like, names)
    first, *lines = str(caught.value).split("\n  ")
    return first, lines


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        (["h.0.w", "h.1.w", "h.2.w"], ["h.{0…2}.w"]),
        (["h.10.w", "h.9.w", "h.2.w", "h.4.w"], ["h.{2, 4, 9…10}.w"]),
        (["h.0.w to h/w[0]", "h.1.w to h/w[1]"], ["h.{0…1}.w to h/w[{0…1}]"]),
        (["h.0.w [3]", "h.1.w [4]"], ["h.0.w [3]", "h.1.w [4]"]),
        (["h.0.2.w", "h.0.3.w", "h.1.2.w", "h.1.3.w"], ["h.{0…1}.{2…3}.w"]),
        (["h.0.2.w", "h.0.3.w", "h.1.2.w"], ["h.{0…1}.2.w", "h.0.3.w"]),
        (["fc1.w", "fc2.w", "weight_l0", "weight_l1"], ["fc1.w", "fc2.w", "weight_l0", "weight_l1"]),
        (["b", "a.1", "b", "a.0"], ["b", "a.{0…1}"]),
    ],
)
def test_lines_that_differ_in_a_number_are_one(lines, expected):
    assert folded(lines) == expected


def test_what_is_missing_in_every_block_is_one_line():
    arrays = {name: array for name, array in ARRAYS.items() if "linear1.bias" not in name}
    first, lines = complaint(arrays)
    assert first == "import_state: 6 mismatches"
    assert lines == ["h.{0…5}.linear1.bias: missing"]
    first, lines = complaint(ARRAYS | {f"h.{i}.rotary": np.ones(3) for i in range(6)})
    assert lines == ["h.{0…5}.rotary: no name takes it; map it to ignored if it has no place"]


def test_another_depth_is_one_line():
    first, lines = complaint(arrays_of(model(blocks=4)))
    assert first == "import_state: 24 mismatches"
    assert lines == ["h.{4…5}.…: all 12 names are missing"]
    first, lines = complaint(arrays_of(model(blocks=9)))
    assert first == "import_state: 36 mismatches"
    assert lines == ["h.{6…8}.…: no name takes any of 12 arrays; map them to ignored if they have no place"]


def test_a_block_that_is_there_in_part_is_listed():
    kept = ("norm1.weight", "norm1.bias")
    _, lines = complaint({k: a for k, a in ARRAYS.items() if not k.startswith("h.5.") or k.endswith(kept)})
    assert lines == [f"{name}: missing" for name in ARRAYS if name.startswith("h.5.") and not name.endswith(kept)]


def test_a_prefix_of_all_arrays_is_noticed_and_what_is_offered_works():
    arrays = {f"module.{name}": array for name, array in ARRAYS.items()}
    first, lines = complaint(arrays)
    assert first == "import_state: 150 mismatches"
    assert lines == ["all 75 names are in arrays with the prefix 'module.'; use under(names, 'module.')"]
    import_state(arrays, *LIKE, under(NAMES, "module."))


def test_a_prefix_that_arrays_lack_is_noticed_and_what_is_offered_works():
    names = under(NAMES, "bert.")
    _, lines = complaint(ARRAYS, names)
    assert lines == ["all 75 names are in arrays without the prefix 'bert.'; use renamed(names, {'bert.': ''})"]
    import_state(ARRAYS, *LIKE, renamed(names, {"bert.": ""}))


def test_a_prefix_of_a_part_is_offered_for_that_part_and_what_else_is_wrong_is_said():
    arrays = {name if name.startswith("head.") else f"model.{name}": array for name, array in ARRAYS.items()}
    arrays["extra"] = arrays.pop("head.bias")
    _, lines = complaint(arrays)
    assert lines == [
        "73 names are in arrays with the prefix 'model.'; use under(those, 'model.')",
        "head.bias: missing",
        "extra: no name takes it; map it to ignored if it has no place",
    ]


def test_another_architecture_is_said_in_three_lines():
    arrays = {f"{part}.{i}.fc{j}": np.ones(3) for part in "abc" for i in range(40) for j in range(4)}
    first, lines = complaint(arrays)
    assert first == "import_state: 555 mismatches"
    assert len(lines) == 3
    assert lines[0].startswith("none of the 75 names is in arrays, which are of another architecture")
    assert lines[2] == "arrays: a.{0…39}.fc0, a.{0…39}.fc1, a.{0…39}.fc2, a.{0…39}.fc3, and 8 more"


def test_another_width_is_said_in_a_line_with_examples():
    _, lines = complaint(arrays_of(WIDE))
    assert lines[0] == "arrays are of a model of other sizes, 8 where the model has 4, 32 where the model has 16"
    assert lines[1].startswith("embed.weight: float32[11, 8] becomes [11, 8], but params embed/table is float32[11, 4]")
    assert lines[4].startswith("and 1")
    assert len(lines) == 5


def test_a_few_wrong_shapes_are_listed():
    _, lines = complaint(ARRAYS | {"head.bias": np.ones(8), "head.weight": np.ones((8, 4))})
    assert [line.split(":")[0] for line in lines] == ["head.weight", "head.bias"]


def test_many_lines_of_a_kind_are_cut():
    arrays = {f"other_{i}_x": np.ones(3) for i in range(50)}
    _, lines = complaint(ARRAYS | arrays)
    assert len(lines) == 21
    assert lines[-1] == "and 30 more"


@pytest.mark.parametrize("source", ["dictionary", "file"])
def test_only_names_of_the_right_shape_are_proposed(source, tmp_path):
    params = {"w": np.zeros((3, 2), np.float32), "b": np.zeros(3, np.float32)}
    names = {"hidden.weight": To("w"), "hidden.bias": "b"}
    arrays = {"hidden.bias": np.ones(3), "hidden.weight_g": np.ones((3, 1)), "hiden.weight": np.ones((3, 2))}
    if source == "file":
        save_safetensors(tmp_path / "w.safetensors", arrays)
        arrays = load_safetensors(tmp_path / "w.safetensors")
    _, lines = complaint(arrays, names, (params, ()))
    assert lines[0] == "hidden.weight: missing; did you mean 'hiden.weight', which no name takes?"
    arrays.pop("hiden.weight")
    _, lines = complaint(arrays, names, (params, ()))
    assert lines[0] == "hidden.weight: missing"


def test_the_projection_of_an_lstm_is_named():
    layer = nn.LSTM(4)
    like = jax.eval_shape(layer.init, jax.random.key(0), jax.ShapeDtypeStruct((2, 5, 3), jnp.float32))
    shapes = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2), "bias_ih_l0": (16,), "bias_hh_l0": (16,)}
    arrays = {name: np.ones(shape) for name, shape in shapes.items()} | {"weight_hr_l0": np.ones((2, 4))}
    _, lines = complaint(arrays, torch_names(layer), like)
    assert lines[0] == (
        "weight_hr_l0: no name takes it; it is the projection of an LSTM with proj_size, nn.ProjectedLSTMCell"
    )


def test_names_that_a_terminal_would_take_for_commands_are_quoted():
    _, lines = complaint(ARRAYS | {"\x1b[2Jh\n": np.ones(3), "x" * 10**6: np.ones(3)})
    assert lines[0].startswith(r"'\x1b[2Jh\n': no name takes it")
    assert len(lines) == 2
    assert len(lines[1]) < 400


def test_thousands_of_names_take_no_time():
    like = {f"w{i}_{j}": jax.ShapeDtypeStruct((3,), jnp.float32) for i in range(40) for j in range(40)}
    arrays = {f"v{i}_{j}": np.ones(3) for i in range(40) for j in range(40)} | {"w0_0": np.ones(3)}
    _, lines = complaint(arrays, {name: name for name in like}, (like, ()))
    assert len(lines) == 42


def test_leaves_without_a_name_are_folded_in_export():
    params, state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes(nn.Serial(
        embed=nn.Embedding(11, 4), **{f"h{i}": nn.Linear(4) for i in range(2)}
    )))  # fmt: skip
    with pytest.raises(dlfn.InputError, match="export_state: 5 mismatches\n  no name goes to params embed/table\n"):
        export_state(params, state, {})
