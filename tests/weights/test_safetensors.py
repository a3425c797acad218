"""Safetensors files: what is written is read again, whole or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.weights import load_metadata, load_params, load_safetensors, save_params, save_safetensors

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "int8", "uint32", "bool"])
def test_files_keep_every_dtype_and_layout(tmp_path, dtype):
    dtype = jnp.dtype(dtype)
    array = RNG.normal(size=(4, 6)).astype(dtype)
    arrays = {
        "plain": array,
        "transposed": array.T,
        "strided": array[::2, ::-1],
        "scalar": array[0, 0],
        "none": array[:0],
    }
    save_safetensors(tmp_path / "new" / "a.safetensors", arrays, {"made by": "a test"})
    loaded = load_safetensors(tmp_path / "new" / "a.safetensors")
    assert load_metadata(tmp_path / "new" / "a.safetensors") == {"made by": "a test"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]
    for name, array in arrays.items():
        assert loaded[name].dtype == dtype
        np.testing.assert_array_equal(loaded[name], array, strict=name != "scalar")


def test_params_and_state_are_saved_by_path(tmp_path):
    params, state = {"a": (jnp.ones(2, jnp.bfloat16), jnp.arange(3)), "b": {}}, {"mean": jnp.float32(0.5)}
    path = tmp_path / "model.safetensors"
    save_params(path, params, state, metadata={"step": "3"})
    assert sorted(load_safetensors(path)) == ["params/a/0", "params/a/1", "state/mean"]
    loaded = load_params(path, params, state)
    jax.tree.map(np.testing.assert_array_equal, loaded, (params, state))
    dtypes = lambda tree: jax.tree.map(lambda leaf: leaf.dtype, tree)  # noqa: E731
    assert dtypes(loaded) == dtypes((params, state))
    with pytest.raises(dlfn.InputError, match="state/mean: no name takes it"):
        load_params(path, params)


def test_files_that_cannot_be_read_or_written_say_why(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(dlfn.InputError, match="there is no file"):
        load_safetensors(path)
    save_safetensors(path, {"w": np.arange(100.0)})
    content = path.read_bytes()
    for damaged in (b"", content[:-1], b"PK" + content):
        path.write_bytes(damaged)
        with pytest.raises(dlfn.InputError, match="no safetensors file or damaged"):
            load_safetensors(path)
    for arrays, what in (
        ((np.zeros(2),), "save_params takes"),
        ({"w": object()}, "cannot save"),
        ({"w": np.zeros(2, np.complex128)}, "cannot save"),
    ):
        with pytest.raises(dlfn.InputError, match=what):
            save_safetensors(path, arrays)
    with pytest.raises(dlfn.InputError, match="cannot write"):
        save_safetensors(path / "below", {"w": np.zeros(2)})
    assert path.read_bytes() == b"PK" + content, "a failed save leaves the old file"
