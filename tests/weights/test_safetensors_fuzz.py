"""Thousands of damaged safetensors files and indices: each is refused, or read as the package safetensors reads it."""

import json
import random

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

import dlfn
from dlfn.weights import load_safetensors

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([True, False, True]),
    "c": np.array(3, np.int64),
    "d": np.zeros((0, 4), np.float16),
    "e": np.arange(5, dtype=np.uint8),
}
NUMBERS = [0, 1, 2, 3, 7, 8, 24, 25, 64, 255, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, -1, -8, 0.5, 1e300]
VALUES = [
    *NUMBERS, None, True, "", "F32", "F64", "BOOL", "BF16", "F8_E4M3", "U8", "f32", [], [0], [0, 8], [2, 3], [0, 2**62],
    {}, {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]},
]  # fmt: skip


def parts_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(text, content):
    return len(text).to_bytes(8, "little") + text + content


def damaged_bytes(rng, content):
    """Some bytes or bits changed, cut, doubled, or put in."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(content) or 1)
        match rng.randrange(6):
            case 0 if content:
                content[at] ^= 1 << rng.randrange(8)
            case 1 if content:
                content[at] = rng.randrange(256)
            case 2:
                content[at : at + rng.randrange(20)] = b""
            case 3:
                content[at:at] = content[at : at + rng.randrange(20)]
            case 4:
                content = content[: at + 1]
            case 5:
                content[at:at] = rng.choice(
                    [b"{", b"}", b"[", b",", b'"', b"-", b"0", b"e9", b"\\u0000", b"\xc3", b" "]
                )
    return bytes(content)


def damaged_value(rng, value):
    """A value of JSON in which one is another, is gone, or is there twice."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, other = rng.choice(keys), rng.choice(keys)
        copy = value.copy()
        match rng.randrange(6):
            case 0:
                copy.pop(key)
            case 1:
                copy[key] = value[other]
            case 2 if isinstance(value, dict):
                copy[rng.choice(["", "a", "z", "__metadata__", "shape"])] = value[other]
            case _:
                copy[key] = damaged_value(rng, value[key])
        return copy
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice([-8, -4, -1, 1, 4, 8])
    return rng.choice(VALUES)


def damaged(seed, base):
    """A file, by its number."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        # The header with its length, of which more reaches what comes after the parsing than of the arrays.
        cut = rng.choice([8, len(base) - 50, len(base)])
        return damaged_bytes(rng, base[:cut]) + base[cut:]
    header, content = parts_of(base)
    for _ in range(rng.choice([1, 1, 2, 3])):
        header = damaged_value(rng, header)
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        text = damaged_bytes(rng, text)
    if rng.random() < 0.2:
        content = damaged_bytes(rng, content)
    return joined(text, content)


def theirs(path):
    with safe_open(path, framework="np") as file:
        return file.get_tensors()


def as_bytes(arrays):
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def agree(path, reference):
    """Whether it is read, as the reference reads it, and not refused."""
    try:
        ours = load_safetensors(path)
    except dlfn.InputError:
        return False
    assert as_bytes(ours) == as_bytes(reference())
    return True


@pytest.mark.parametrize(
    "seeds",
    [range(300), *(pytest.param(range(i, i + 1000), marks=pytest.mark.exhaustive) for i in range(0, 10_000, 1000))],
    ids=lambda seeds: f"{seeds.start}-{seeds.stop}",
)
def test_damaged_files_are_refused_or_read_as_others_read_them(tmp_path, seeds):
    base, path = save(ARRAYS, {"format": "np"}), tmp_path / "w.safetensors"
    read = 0
    for seed in seeds:
        path.write_bytes(damaged(seed, base))
        read += agree(path, lambda: theirs(path))
    assert 0.02 < read / len(seeds) < 0.5, "some are still sound, and most are not"


@pytest.mark.parametrize(
    "seeds",
    [range(200), *(pytest.param(range(i, i + 1000), marks=pytest.mark.exhaustive) for i in range(0, 3000, 1000))],
    ids=lambda seeds: f"{seeds.start}-{seeds.stop}",
)
def test_damaged_indices_are_refused_or_read_as_others_read_them(tmp_path, seeds):
    files = {"1.safetensors": {"a": ARRAYS["a"], "b": ARRAYS["b"]}, "2.safetensors": {"c": ARRAYS["c"]}}
    sound = {name: save(arrays) for name, arrays in files.items()}
    index = {"metadata": {"total_size": 35}, "weight_map": {k: file for file in files for k in files[file]}}
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "3.safetensors").write_bytes(save({"z": ARRAYS["a"]}))
    (tmp_path / "below" / "x").symlink_to(tmp_path)
    folder, read = tmp_path / "model", 0
    folder.mkdir()
    for seed in seeds:
        rng = random.Random(seed)
        for name, content in sound.items():
            (folder / name).write_bytes(damaged(seed, content) if rng.random() < 0.1 else content)
        text = json.dumps(damaged_value(rng, index) if rng.random() < 0.6 else index)
        for name in files:
            if rng.random() < 0.1:
                text = text.replace(name, rng.choice(["../below/3.safetensors", "4.safetensors", "", "2.safetensors"]))
        content = damaged_bytes(rng, text.encode()) if rng.random() < 0.4 else text.encode()
        (folder / "model.safetensors.index.json").write_bytes(content)

        def reference(content=content):
            found = {}
            for name, file in json.loads(content)["weight_map"].items():
                found[name] = theirs(folder / file)[name]
            return found

        read += agree(folder, reference)
    assert 0.02 < read / len(seeds) < 0.6
