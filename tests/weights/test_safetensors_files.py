"""What a path of safetensors stands for, and files that are not what they seem: refused before an array is read."""

import json
import os
import pickle

import numpy as np
import pytest

import dlfn
from dlfn.weights import load_metadata, load_params, load_safetensors, open_safetensors, save_params, save_safetensors

INDEX = "model.safetensors.index.json"
ARRAYS = {
    "a.w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.b": np.ones(4, np.float16),
    "b.w": np.arange(4000, dtype=np.int64),
}
SHARDS = {"model-00001-of-00002.safetensors": ["a.w", "a.b"], "model-00002-of-00002.safetensors": ["b.w"]}
MAP = {name: file for file, names in SHARDS.items() for name in names}


@pytest.fixture
def folder(tmp_path):
    """A model in two files with an index."""
    for file, names in SHARDS.items():
        save_safetensors(tmp_path / file, {name: ARRAYS[name] for name in names}, {"format": "pt"})
    write_index(tmp_path, MAP)
    return tmp_path


def write_index(folder, weights):
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 88.0}, "weight_map": weights}))


def raw(path, header, content=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + content)


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_folder_an_index_and_a_file_are_read(folder):
    equal(load_safetensors(folder), ARRAYS)
    equal(load_safetensors(str(folder / INDEX)), ARRAYS)
    assert load_metadata(folder) == {"format": "pt"}
    first, names = next(iter(SHARDS.items()))
    equal(load_safetensors(folder / first), {name: ARRAYS[name] for name in names})
    save_safetensors(folder / "model.safetensors", {"whole": np.ones(2)})
    equal(load_safetensors(folder), {"whole": np.ones(2)})


def test_arrays_are_read_when_they_are_asked_for(folder):
    with open_safetensors(folder) as arrays:
        assert len(arrays) == 3
        assert "a.w" in arrays
        assert "c" not in arrays
        assert arrays.shape_of("a.b").shape == (4,)
        first = arrays["a.w"]
        assert first.flags.writeable
        assert arrays["a.w"] is not first
        os.truncate(folder / MAP["b.w"], 100)
        with pytest.raises(dlfn.InputError, match=r"'b\.w' from .*00002-of-00002.* has become shorter"):
            arrays["b.w"]


def test_only_what_is_asked_for_is_read(folder):
    with open_safetensors(folder) as arrays:
        for name in MAP.values():
            os.truncate(folder / name, 0)
        assert "b.w" in arrays
        assert list(arrays) == list(MAP)
        with pytest.raises(dlfn.InputError, match=r"'b\.w'"):
            arrays.get("b.w")


def test_an_error_of_the_user_stays_what_it_is(folder):
    with pytest.raises(FileNotFoundError, match="mine"), open_safetensors(folder):
        (folder / "mine").read_bytes()


def test_params_are_read_from_a_folder_too(tmp_path):
    params = {"w": np.arange(3.0, dtype=np.float32)}
    save_params(tmp_path / "model.safetensors", params)
    np.testing.assert_array_equal(load_params(tmp_path, params)[0]["w"], params["w"])


def test_the_links_of_the_hubs_cache_are_followed(folder, tmp_path):
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, name in enumerate([*SHARDS, INDEX]):
        (folder / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    equal(load_safetensors(snapshot), ARRAYS)


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ({**MAP, "c": "missing-1.safetensors", "d": "missing-2.safetensors"},
         ["2 of 4 files are missing", "missing-1.safetensors, missing-2.safetensors"]),
        ({**MAP, **{str(i): f"{i}.safetensors" for i in range(9)}},
         ["9 of 11 files are missing", "0.safetensors, 1.safetensors, ", "4.safetensors and 4 more"]),
        ({**MAP, "c": "../x.safetensors"}, ["'../x.safetensors'", "may only name files in its own folder"]),
        ({**MAP, "c": "sub/x.safetensors"}, ["only name files in its own folder"]),
        ({**MAP, "c": "..\\x.safetensors"}, ["only name files in its own folder"]),
        ({**MAP, "c": "C:x.safetensors"}, ["only name files in its own folder"]),
        ({**MAP, "c": "/etc/passwd"}, ["'/etc/passwd'", "only name files in its own folder"]),
        ({**MAP, "c": ".."}, ["only name files in its own folder"]),
        ({**MAP, "c": "."}, ["only name files in its own folder"]),
        ({**MAP, "c": ""}, ["only name files in its own folder"]),
        ({**MAP, "c": "a\0"}, ["only name files in its own folder"]),
        ({**MAP, "c": "link"}, ["'link'", "a link to", "outside"]),
        ({**MAP, "c": "loop"}, ["a file is missing", "loop"]),
        ({**MAP, "c": "x" * 300}, ["File name too long"]),
        ({**MAP, "b.w": MAP["a.w"]}, ["'b.w' is in 'model-00001-of-00002.safetensors', where it is not"]),
        ({"a.w": MAP["a.w"], "b.w": MAP["b.w"]}, ["has 'a.b', which by the index", "is nowhere"]),
        ({**MAP, "a.b": MAP["b.w"]}, ["has 'a.b', which", "is in 'model-00002-of-00002.safetensors'"]),
        ({**MAP, "c": INDEX}, ["no safetensors file or damaged"]),
        ({**MAP, "c": 3}, ["is no index", "'weight_map'"]),
        ({}, ["is no index"]),
        ([], ["is no index"]),
    ],
)  # fmt: skip
def test_an_index_that_is_wrong_is_refused(folder, tmp_path_factory, refused, weights, parts):
    outside = tmp_path_factory.mktemp("outside") / "x.safetensors"
    save_safetensors(outside, {"c": np.ones(2)})
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    write_index(folder, weights)
    refused(lambda: load_safetensors(folder), parts)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "does not begin with JSON"), ("[]", "does not begin with JSON"), ("{}", "is no index"), ("{", "damaged"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "has 'a' twice"), ('{"a": ' * 100_000, "nested too deeply"),
        (b"{\xff", "not in UTF-8"), ('{"architectures": ["BertModel"]}', "is no index"),
    ],
)  # fmt: skip
def test_json_that_is_no_index_is_refused(folder, refused, text, part):
    (folder / INDEX).write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lambda: load_safetensors(folder / INDEX), [INDEX, part])


def test_a_folder_says_what_there_is_instead(tmp_path, refused):
    refused(lambda: load_safetensors(tmp_path), ["there is no model.safetensors or model.safetensors.index.json"])
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refused(lambda: load_safetensors(tmp_path), ["'pytorch_model.bin', a pickle", "weights_only=True"])
    save_safetensors(tmp_path / "other.safetensors", ARRAYS)
    refused(lambda: load_safetensors(tmp_path), ["'other.safetensors': pass that file itself"])
    os.mkfifo(tmp_path / "model.safetensors")
    refused(lambda: load_safetensors(tmp_path / "model.safetensors"), ["there is no file"])


class Bomb:
    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("w.bin", pickle.dumps(Bomb()), ["is a pickle", "save_file(torch.load('w.bin'", "'w.safetensors'"]),
        ("w.weights", pickle.dumps(Bomb()), ["is a pickle"]),
        ("w.weights", b"PK\3\4" + bytes(99), ["is a pickle"]),
        ("w.gguf", b"GGUF" + bytes(99), ["a GGUF file"]),
        ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), ["an HDF5 file", "h5py"]),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", ["a pointer of Git LFS"]),
        ("w.safetensors", b"", ["damaged: it has 0 bytes"]),
    ],
)
def test_files_of_other_formats_are_named_and_not_run(tmp_path, refused, name, content, parts):
    (tmp_path / name).write_bytes(content)
    refused(lambda: load_safetensors(tmp_path / name), parts)


def one(**changes):
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


HEADERS = {
    "float8": (one(dtype="F8_E4M3", data_offsets=[0, 2]), "'w' is of float8 (F8_E4M3)", "in bfloat16"),
    "dtype": (one(dtype="F128"), "the dtype 'F128'", "known are BOOL"),
    "no string": (one(dtype=["F32"]), "the dtype ['F32']"),
    "beyond": (one(shape=[4], data_offsets=[0, 16]), "end at byte", "and the file has"),
    "short": (one(shape=[1], data_offsets=[0, 4]), "end at byte"),
    "hole": (one(shape=[1], data_offsets=[4, 8]), "begins at byte"),
    "overlap": ({**one(), "v": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "'v' begins at byte"),
    "backwards": (one(data_offsets=[8, 0]), "data_offsets are [8, 0]"),
    "negative": (one(data_offsets=[-8, 0]), "has the number -8"),
    "negative length": (one(shape=[-2]), "has the number -2"),
    "fraction": (one(shape=[2.0]), "has the number 2.0"),
    "not a number": (one(shape=[float("nan")]), "has the number NaN"),
    "true": (one(shape=[True, 2]), "the shape of 'w' is no list"),
    "huge": (one(shape=[2**62, 2**62]), "larger than any array"),
    "huge and empty": (one(shape=[0, 2**62, 2**62], data_offsets=[0, 0]), "larger than any array"),
    "too long": (one(shape=[10**25]), "has the number 1000000"),
    "axes": (one(shape=[1] * 64 + [2]), "at most 64"),
    "size": (one(shape=[3]), "'w' is F32[3], of 12 bytes", "[0, 8]"),
    "offsets": (one(data_offsets=[0, 8, 8]), "not two counts"),
    "more": (one(more=1), "has not dtype, shape and data_offsets alone"),
    "less": ({"w": {"dtype": "F32"}}, "has not dtype, shape and data_offsets alone"),
    "list": ({"w": []}, "has not dtype"),
    "metadata": ({**one(), "__metadata__": {"a": 1}}, "metadata is no dictionary of strings"),
    "array": (b"[]", "does not begin with JSON"),
    "twice": (b'{"w": {}, "w": {}}', "has 'w' twice"),
    "half": (b'{"\\ud800": {}}', "half a character"),
    "deep": (b'{"a":' * 100_000, "nested too deeply"),
    "latin": (b'{"\xe9": {}}', "not in UTF-8"),
    "damaged": (b'{"w": ', "its JSON is damaged"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_wrong_are_refused(tmp_path, refused, name):
    header, *parts = HEADERS[name]
    raw(tmp_path / "w.safetensors", header, bytes(8))
    refused(lambda: load_safetensors(tmp_path / "w.safetensors"), ["w.safetensors", *parts])


@pytest.mark.parametrize("length", [2**30, 2**40, 2**63, 2**64 - 1])
def test_a_long_header_is_refused_before_it_is_read(tmp_path, refused, length):
    path = tmp_path / "w.safetensors"
    raw(path, one(), bytes(8), length)
    refused(lambda: load_safetensors(path), [f"its header would have {length} bytes, and there are"])
    if length <= 2**40:
        os.truncate(path, length + 8)  # a sparse file, which takes no room
        refused(lambda: load_safetensors(path), [f"would have {length} bytes, and may have 100000000"])
