"""Checkpoints: what was saved comes back bit for bit, or not at all and by name; and no kill loses what was whole."""

import contextlib
import resource
import shutil
import subprocess
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from dlfn.train.checkpoints import Checkpoints
from helpers import python

pytestmark = pytest.mark.usefixtures("quick_compilation")

SUMS = "SHA256SUMS"


@pytest.fixture
def make(tmp_path):
    """Makes checkpoints in one folder, and closes them."""
    with contextlib.ExitStack() as stack:
        path = tmp_path / "checkpoints"
        yield lambda folder=path, **settings: stack.enter_context(contextlib.closing(Checkpoints(folder, **settings)))


def tiny(step):
    return {"w": np.full(3, step, np.float32)}


def save_all(checkpoints, steps, **settings):
    for step in steps:
        checkpoints.save(step, tiny(step), {"position": step}, **settings)
    checkpoints.wait()


def save(checkpoints, step, tree, meta):
    checkpoints.save(step, tree, meta)
    checkpoints.wait()


def flip(path, where=0.5):
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def bits(leaf):
    leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(leaf, order="C").tobytes()


def assert_same(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for leaf, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        assert (leaf.shape, leaf.dtype, type(leaf)) == (other.shape, other.dtype, type(other))
        assert bits(leaf) == bits(other)


class Carry(NamedTuple):
    params: object
    state: object


NARROW = ("bfloat16", *(name for name in dir(ml_dtypes) if name.startswith("float8") and name != "float8_e4m3"))


def hard_tree():
    """Every dtype with all patterns of bits that a byte has, nan with payloads among them; and what has no elements."""
    every = np.arange(256, dtype=np.uint8)
    arrays = {name: jnp.asarray(every.view(getattr(ml_dtypes, name))) for name in NARROW}
    arrays |= {name: jnp.asarray(every.view(name)) for name in ("float16", "float32", "int8", "int32", "complex64")}
    arrays |= {"bool": every > 3, "int4": jnp.arange(-8, 8).astype("int4"), "-0": jnp.float32(-0.0)}
    arrays |= {"none": None, "empty": jnp.zeros((0, 3)), "empty numpy": np.zeros((2, 0)), "numpy": np.arange(3.0)}
    keys = {impl: jax.random.split(jax.random.key(3, impl=impl), 2) for impl in ("threefry2x32", "rbg")}
    return Carry({"a.b/c": [arrays, jnp.asarray(every.reshape(16, 16).T)]}, (keys, jax.random.key(0)))


def optimizer_tree():
    params = {"hidden": {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}}
    labels = {"hidden": {"w": "matrix", "b": "rest"}}
    groups = optax.multi_transform({"matrix": optax.contrib.muon(1e-2), "rest": optax.adamw(1e-3)}, labels)
    decayed = optax.masked(optax.add_decayed_weights(0.1), {"hidden": {"w": True, "b": False}})
    optimizer = optax.MultiSteps(optax.chain(optax.clip_by_global_norm(1.0), decayed, groups, optax.ema(0.9)), 2)
    return params, optimizer.init(params)


@pytest.mark.parametrize("tree", [hard_tree, optimizer_tree, lambda: jnp.arange(3.0)], ids=["hard", "optax", "leaf"])
def test_a_tree_comes_back_bit_for_bit(make, tree, capfd):
    tree = tree()
    meta = {"position": None, "config": {"a": [1, 2.5, "ü"]}}
    save(make(), 7, tree, meta)
    restored = make().restore(tree)
    assert_same(restored.tree, tree)
    assert (restored.step, restored.meta, restored.skipped) == (7, meta, [])
    assert capfd.readouterr() == ("", "")


def test_what_is_donated_or_changed_after_a_save_is_saved_as_it_was(make):
    tree = {"jax": jnp.arange(300_000.0), "numpy": np.arange(300_000)}
    expected = jax.tree.map(np.array, tree)
    checkpoints = make()
    checkpoints.save(1, tree, {})
    tree["numpy"][:] = -1
    changed = jax.block_until_ready(jax.jit(lambda x: -x - 1, donate_argnums=0)(tree["jax"]))
    tree["jax"].delete()  # JAX takes the buffer, or a copy of it where it is still being read
    restored = checkpoints.restore({"jax": changed, "numpy": tree["numpy"]})
    assert jax.tree.all(jax.tree.map(np.array_equal, restored.tree, expected))


def sharded(count):
    """A tree over so many devices, in other ways than one."""
    mesh = Mesh(np.array(jax.devices()[:count]).reshape(-1, 1 if count == 1 else 2), ("data", "model"))
    place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))  # noqa: E731
    return {
        "both": place(jnp.arange(64.0).reshape(8, 8), "data", "model"),
        "one": place(jnp.arange(8).astype(jnp.bfloat16), "model"),
        "copied": place(jnp.float32(3.0)),
        "key": place(jax.random.split(jax.random.key(1), 8), "data"),
    }


@pytest.mark.parametrize(("before", "after"), [(8, 1), (1, 8), (8, 4)])
def test_a_tree_comes_back_in_the_shardings_asked_for(make, before, after):
    save(make(), 1, sharded(before), {})
    expected = sharded(after)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), expected)
    restored = make().restore(like).tree
    assert_same(restored, expected)
    for leaf, other in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        assert leaf.sharding.is_equivalent_to(other.sharding, leaf.ndim)


ONE_DEVICE = """
import sys, jax, jax.numpy as jnp
from dlfn.train.checkpoints import Checkpoints
assert jax.device_count() == 1
checkpoints = Checkpoints(sys.argv[1])
assert checkpoints.steps() == [1]
assert "dlfn.train" in sys.modules and not {"orbax", "tensorstore"} & {name.split(".")[0] for name in sys.modules}
like = {"both": jax.ShapeDtypeStruct((8, 8), jnp.float32), "one": jax.ShapeDtypeStruct((8,), jnp.bfloat16)}
like |= {"copied": jax.ShapeDtypeStruct((), jnp.float32), "key": jax.random.split(jax.random.key(2), 8)}
checkpoints.save(2, checkpoints.restore(like).tree, {})
checkpoints.close()
"""


def test_a_process_with_one_device_restores_what_eight_have_saved_and_back(make, tmp_path, capfd):
    """And it does not load Orbax, which takes a second, before it needs it."""
    save(make(), 1, sharded(8), {})
    process = python(ONE_DEVICE, tmp_path / "checkpoints", JAX_NUM_CPU_DEVICES="1")
    assert process.wait(120) == 0
    restored = make().restore(sharded(8))
    assert restored.step == 2
    assert_same(restored.tree, sharded(8))
    assert capfd.readouterr() == ("", "")


def test_without_a_sharding_arrays_are_on_the_first_device(make):
    save(make(), 1, sharded(8), {})
    restored = make().restore(jax.eval_shape(lambda: sharded(1)))
    for leaf in jax.tree.leaves(restored.tree):
        assert leaf.sharding == SingleDeviceSharding(jax.devices()[0])


def test_a_flipped_byte_in_any_file_is_found_and_named_and_the_step_before_used(make, tmp_path):
    checkpoints = make()
    save_all(checkpoints, [1, 2], score=0.5)
    folder = tmp_path / "checkpoints" / "2"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"meta.json", SUMS, "manifest.ocdbt"} <= {path.name for path in files}
    for path in files:
        name = path.relative_to(folder).as_posix()
        flip(path)
        for best in (False, True):
            restored = checkpoints.restore(tiny(0), best=best)
            assert (restored.step, restored.skipped) == (1, [(2, f"file {name} was changed")])
        assert_same(restored.tree, tiny(1))
        flip(path)
    assert checkpoints.restore(tiny(0)).step == 2


@pytest.mark.parametrize("where", np.linspace(0, 1, 9))
def test_the_sums_themselves_are_checked(make, tmp_path, where):
    save_all(make(), [1, 2])
    flip(tmp_path / "checkpoints" / "2" / SUMS, where)
    assert make().restore(tiny(0)).skipped == [(2, f"file {SUMS} was changed")]


def test_a_file_that_is_cut_or_gone_is_named(make, tmp_path):
    save_all(make(keep_last=3), [1, 2, 3])
    (tmp_path / "checkpoints" / "3" / "meta.json").unlink()
    (tmp_path / "checkpoints" / "2" / "meta.json").write_bytes(b"")
    restored = make().restore(tiny(0))
    assert restored.skipped == [(3, "file meta.json is missing"), (2, "file meta.json was changed")]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_sums(make, tmp_path):
    save_all(make(), [1])
    check = lambda: subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=tmp_path / "checkpoints" / "1").returncode  # noqa: E731
    assert check() == 0
    flip(tmp_path / "checkpoints" / "1" / "meta.json")
    assert check() == 1


def test_a_save_that_was_cut_short_is_skipped_and_saved_again(make, tmp_path):
    checkpoints = make()
    save_all(checkpoints, [1, 2])
    (tmp_path / "checkpoints" / "2" / SUMS).unlink()
    assert make().steps() == [1]
    for step in (1, 2):
        restored = checkpoints.restore(tiny(0))
        assert restored.step == step
        assert restored.skipped == [(2, f"it has no {SUMS}, so that its save was cut short")] * (step == 1)
        save_all(checkpoints, [2])


def test_nothing_saved_is_none_and_nothing_whole_is_an_error(make, tmp_path, refused):
    checkpoints = make()
    assert checkpoints.restore(tiny(0)) is None
    save_all(checkpoints, [1])
    (tmp_path / "checkpoints" / "1" / SUMS).rename(tmp_path / "sums")
    assert checkpoints.restore(tiny(0)) is None  # a kill during the first save
    (tmp_path / "sums").rename(tmp_path / "checkpoints" / "1" / SUMS)
    flip(tmp_path / "checkpoints" / "1" / "meta.json")
    parts = ["no checkpoint", "is whole", "step 1: file meta.json was changed", "start anew"]
    refused(lambda: checkpoints.restore(tiny(0)), parts)


@pytest.mark.parametrize(
    ("settings", "scores", "kept", "best"),
    [
        ({}, [None] * 4, [3, 4], 4),
        ({"keep_last": 1, "keep_best": 0}, [0, 1, 2, 3], [4], 4),
        ({}, [2, 1, 3, 4], [2, 3, 4], 2),
        ({"keep_best": 2}, [1, 9, 2, 3], [1, 3, 4], 1),
        ({"keep_last": 1}, [1, 1, float("nan"), float("-inf")], [2, 4], 2),
    ],
)
def test_the_last_and_the_best_are_kept(make, tmp_path, settings, scores, kept, best):
    checkpoints = make(**settings)
    for step, score in enumerate(scores, 1):
        checkpoints.save(step, tiny(step), {}, score)
    restored = checkpoints.restore(tiny(0), best=True)
    assert checkpoints.steps() == kept == sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert restored.step == best
    assert_same(restored.tree, tiny(best))


def test_damaged_steps_do_not_count_among_the_last(make, tmp_path):
    checkpoints = make(keep_last=2, keep_best=0)
    save_all(checkpoints, [10])
    save_all(make(keep_last=9), [20, 30])
    for step in (20, 30):
        flip(tmp_path / "checkpoints" / str(step) / "meta.json")
    assert checkpoints.restore(tiny(0)).step == 10
    save_all(checkpoints, [15])  # below the damaged ones, which it takes the place of
    assert checkpoints.steps() == [10, 15]
    assert checkpoints.restore(tiny(0)).step == 15


def test_a_step_is_saved_once_and_none_before_the_newest(make, refused):
    checkpoints = make()
    save_all(checkpoints, [1, 5])
    checkpoints.save(5, tiny(6), {})
    assert_same(checkpoints.restore(tiny(0)).tree, tiny(5))
    refused(lambda: checkpoints.save(4, tiny(4), {}), ["step is 4", "one of step 5", "restore"])


KEY = jax.random.key
MISFITS = {
    "shape": (
        {"a": jnp.ones((2, 3))},
        {"a": jnp.ones((2, 4))},
        ["leaf 'a' is float32[2, 3]", "here it is float32[2, 4]"],
    ),
    "dtype": ({"a": jnp.ones(2, jnp.bfloat16)}, {"a": jnp.ones(2)}, ["'a' is bfloat16[2]", "float32[2]"]),
    "missing": (
        {"a": jnp.ones(2), "b": {"w": jnp.ones(3)}},
        {"a": jnp.ones(2)},
        ["'b/w' is float32[3]", "it is missing"],
    ),
    "extra": ({"a": jnp.ones(2)}, {"a": jnp.ones(2), "b": jnp.ones(3)}, ["'b' is missing", "here it is float32[3]"]),
    "empty": (
        {"a": jnp.ones((0, 2)), "b": jnp.ones(1)},
        {"a": jnp.ones((2, 0)), "b": jnp.ones(1)},
        ["float32[0, 2]", "float32[2, 0]", "another model"],
    ),
    "number": ({"a": jnp.float32(1)}, {"a": 1.0}, ["'a' is float32[]", "here it is float[]"]),
    "first": ({"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": jnp.ones(2), "b": jnp.ones(2)}, ["leaf 'a'"]),
    "key": ({"k": KEY(0)}, {"k": KEY(0, impl="rbg")}, ["'k' is key<fry>", "key<rbg>", "impl='threefry2x32'"]),
    "raw key": ({"k": KEY(0)}, {"k": jax.random.PRNGKey(0)}, ["'k' is key<fry>[]", "uint32[2]"]),
}


@pytest.mark.parametrize(("saved", "like", "parts"), MISFITS.values(), ids=MISFITS)
def test_a_tree_that_does_not_fit_names_the_first_leaf_that_differs(make, refused, saved, like, parts):
    checkpoints = make()
    checkpoints.save(1, saved, {})
    refused(lambda: checkpoints.restore(like), ["the checkpoint of step 1 in", *parts])
    assert_same(checkpoints.restore(saved).tree, saved)


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda path: Checkpoints(path, keep_last=0), ["keep_last is 0", "at least 1"]),
        (lambda path: Checkpoints(path, keep_best=-1), ["keep_best is -1", "at least 0"]),
        (lambda path: Checkpoints(path).save(1, {"a": 1}, {}), ["leaf 'a' is 1", "must be an array", "jnp.asarray"]),
        (lambda path: Checkpoints(path).save(1, {"a": jnp.ones(2, "uint4")}, {}), ["'a' is uint4", "cast it"]),
        (lambda path: Checkpoints(path).save(1, {"a": jnp.ones((0, 2))}, {}), ["tree has no array with an element"]),
        (lambda path: Checkpoints(path).save(1, {"a": jnp.ones(2)}, {"b": {1}}), ["meta", "JSON", "set"]),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, refused, mistake, parts):
    refused(lambda: mistake(tmp_path / "checkpoints"), parts)
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_that_cannot_be_made_is_one_line(make, tmp_path, refused):
    (tmp_path / "file").touch()
    checkpoints = make(tmp_path / "file" / "checkpoints")
    refused(lambda: checkpoints.save(1, tiny(1), {}), ["cannot save step 1 in", "Not a directory"])


@pytest.mark.parametrize("save_next", [True, False])
def test_a_disk_that_takes_no_more_is_one_line_at_the_next_call_and_loses_nothing(
    make, tmp_path, refused, capfd, save_next
):
    """Here the system refuses files above a limit, which is told in the same way as a full disk."""
    checkpoints = make()
    save_all(checkpoints, [1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        large = {"w": jax.random.normal(jax.random.key(0), (100_000,))}
        checkpoints.save(2, large, {})
        next_call = (lambda: checkpoints.save(3, tiny(3), {})) if save_next else checkpoints.wait
        refused(next_call, ["cannot save step 2 in", "File too large", "the steps before it are as they were"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    save_all(checkpoints, [4])
    assert checkpoints.steps() == [1, 4]
    assert capfd.readouterr() == ("", "")


def test_restoring_writes_nothing(make, tmp_path):
    """So that a folder that is read-only, or in which a run is at work, can be read."""
    save_all(make(), [1, 2])
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()
    listing = lambda: {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}  # noqa: E731
    before = listing()
    assert make().restore(tiny(0)).step == 2
    assert listing() == before
    save_all(make(), [4])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]


def test_orbax_itself_reads_the_folder(make, tmp_path):
    import orbax.checkpoint as ocp

    save_all(make(), [1, 2])
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        assert list(manager.all_steps()) == [1, 2]
        args = ocp.args.PyTreeRestore(restore_args={"w": ocp.RestoreArgs(restore_type=np.ndarray)})
        assert_same(manager.restore(2, args=args), tiny(2))
