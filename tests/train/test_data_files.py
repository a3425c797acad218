"""Data files: what is read is what other readers read, and bad files are one line."""

import gzip
import inspect
import shutil
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from dlfn.train.data import DATA, arrays, arrays_file, csv, diabetes, digits, idx, images, text


def everything(source):
    return source.rows(0, source.size)


def write_idx(path, array, magic=None, cut=None):
    header = (magic or bytes([0, 0, 8, array.ndim])) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes((header + array.tobytes())[:cut])


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5)).astype(np.uint8)
LABELS = (np.arange(12) % 3).astype(np.uint8)
FILES = {
    "train-images-idx3-ubyte": IMAGES[:8],
    "train-labels-idx1-ubyte": LABELS[:8],
    "t10k-images-idx3-ubyte": IMAGES[8:],
    "t10k-labels-idx1-ubyte": LABELS[8:],
}


@pytest.fixture
def folder(tmp_path):
    for name, array in FILES.items():
        write_idx(tmp_path / name, array)
    return tmp_path


@pytest.mark.parametrize("packed", [False, True])
def test_idx_reads_what_was_written(folder, packed):
    if packed:
        for name in FILES:
            with (folder / name).open("rb") as plain, gzip.open(folder / f"{name}.gz", "wb") as file:
                shutil.copyfileobj(plain, file)
            (folder / name).unlink()
    data = idx(str(folder), standardise=False)
    x, y = everything(data.test)
    np.testing.assert_allclose(x, IMAGES[8:] / np.float32(255), rtol=1e-6)
    assert (y.tolist(), y.dtype, data.info) == (
        LABELS[8:].tolist(),
        np.int32,
        {"outputs": 3, "input_scale": (0.0, 255.0)},
    )
    assert data.train.resident()[0].dtype == np.uint8
    assert everything(idx(str(folder)).train)[0].std() == pytest.approx(1)


def test_images_held_out_of_the_training_images_leave_the_test_alone(folder):
    data = idx(str(folder), test_fraction=0.25, standardise=False)
    assert (data.train.size, data.test.size) == (6, 2)
    pixels = np.concatenate([everything(data.train)[0], everything(data.test)[0]]).sum((1, 2))
    np.testing.assert_allclose(np.sort(pixels), np.sort(IMAGES[:8].sum((1, 2)) / 255), rtol=1e-5)


def test_fashion_is_found_where_debian_puts_it(folder, monkeypatch, refused):
    monkeypatch.chdir(folder)
    (folder / "fashion-mnist").mkdir()
    for name in FILES:
        (folder / name).rename(folder / "fashion-mnist" / name)
    monkeypatch.setattr(images, "_FASHION", folder / "fashion-mnist")
    data = idx()
    assert data.info["labels"][9] == "ankle boot"
    assert data.info["outputs"] == len(data.info["labels"]) == 10
    monkeypatch.setattr(images, "_FASHION", folder / "nowhere")
    refused(idx, ["Fashion-MNIST is not at", "apt install dataset-fashion-mnist", "path ="])


@pytest.mark.skipif(not Path(images._FASHION).is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_whole():
    data = idx()
    assert (data.train.size, data.test.size) == (60_000, 10_000)
    assert np.bincount(data.train.resident()[1]).tolist() == [6000] * 10


TABLE = 'width,"height, in m",kind\n1,2.5,3\n4,-1e2,3\n\n"7",0,5\n2,2,5\n9,1,3\n'


def write(folder, content, name="table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_a_table_is_what_numpy_reads(tmp_path):
    table = np.array([[1, 2.5, 3], [4, -100, 3], [7, 0, 5], [2, 2, 5], [9, 1, 3]])
    data = csv(write(tmp_path, "\ufeff" + TABLE), test_fraction=0, standardise=False)
    x, y = everything(data.train)
    order = [table[:, 0].tolist().index(width) for width in x[:, 0]]
    assert np.array_equal(np.concatenate([x, y], axis=1), table[order].astype(np.float32))
    assert (data.test, data.info) == (None, {"columns": ("width", "height, in m"), "target": "kind", "outputs": 1})
    bare = csv(write(tmp_path, TABLE.partition("\n")[2].replace(",", ";")), delimiter=";", test_fraction=0, target=0)
    assert bare.info["columns"] == ("1", "2")


def test_the_classes_of_a_table_count_from_0_by_name(tmp_path):
    data = csv(
        write(tmp_path, TABLE + TABLE.partition("\n")[2]), target="kind", task="classification", test_fraction=0.4
    )
    x, y = everything(data.train)
    test_x, test_y = everything(data.test)
    assert data.info["labels"] == ("3", "5")
    assert (data.info["outputs"], y.dtype, sorted(test_y)) == (2, np.int32, [0, 0, 0, 1])
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0), 1, rtol=1e-6)
    assert np.abs(test_x.mean(0)).max() > 1e-3


def test_diabetes_is_that_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_diabetes(scaled=False)
    data = diabetes(test_fraction=0, standardise=False)
    x, y = everything(data.train)
    ours = np.concatenate([x, y], axis=1)
    both = np.column_stack([theirs.data, theirs.target]).astype(np.float32)
    assert np.array_equal(ours[np.lexsort(ours.T)], both[np.lexsort(both.T)])
    assert list(data.info["columns"]) == theirs.feature_names


def test_targets_are_turned_back_by_their_scale():
    plain, scaled = diabetes(standardise=False), diabetes()
    mean, deviation = scaled.info["target_scale"]
    np.testing.assert_allclose(
        everything(scaled.test)[1] * deviation + mean, everything(plain.test)[1], rtol=1e-4, atol=1e-3
    )


def test_arrays_of_a_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES, y=LABELS, train=IMAGES[:4] * 1.0, scores=np.arange(4.0))
    data = arrays_file(str(tmp_path / "a.npz"), test_fraction=0.25)
    assert (data.train.size, data.test.size, data.info) == (9, 3, {"outputs": 3})
    assert [array.dtype for array in everything(data.train)] == [np.uint8, np.int32]
    data = arrays_file(str(tmp_path / "a.npz"), test_x="x", test_y="y", standardise=True)
    assert data.train.resident()[0].dtype == np.uint8
    x, y = everything(data.test)
    np.testing.assert_allclose(x, (IMAGES - IMAGES.mean()) / IMAGES.std(), rtol=1e-4, atol=1e-6)
    assert y.tolist() == LABELS.tolist()
    data = arrays_file(str(tmp_path / "a.npz"), x="train", y="scores")
    assert everything(data.train)[1].shape == (4, 1)
    np.save(tmp_path / "b.npy", IMAGES)
    assert np.array_equal(everything(arrays_file(str(tmp_path / "b.npy")).train), IMAGES)


def test_characters_and_bytes_come_back(tmp_path):
    content = "naïve café — ∂L/∂x 🙂\r\n" * 9
    for tokens, vocabulary in (("characters", len(set(content))), ("bytes", 256)):
        data = text(write(tmp_path, content, "a.txt"), tokens=tokens, context=8)
        encode, decode = data.info["encode"], data.info["decode"]
        ids = encode(content)
        assert (data.info["vocabulary"], data.info["context"]) == (vocabulary, 8)
        assert decode(ids) == content
        assert ids.max() < vocabulary
        whole = np.concatenate([data.train.resident(), data.test.resident()])
        assert np.array_equal(whole, ids)
        assert len(data.train.resident()) == int(0.9 * len(ids))


def test_the_default_text_names_its_version():
    data = text()
    assert len(data.info["sha256"]) == 64
    assert data.train.size * 64 > 300_000
    assert "lambda" in data.info["decode"](data.train.resident())


def test_a_text_of_its_own_to_test_on(tmp_path):
    data = text(write(tmp_path, "abcd" * 5, "a.txt"), test=write(tmp_path, "edcba" * 4, "b.txt"), context=3)
    assert data.info["vocabulary"] == 5
    assert data.info["decode"](data.test.rows(0, 1)[0]) == "edcb"


@pytest.mark.parametrize("suffix", ["bin", "npy"])
def test_tokens_stay_in_their_file(tmp_path, suffix):
    tokens = np.random.default_rng(0).integers(0, 60_000, 400).astype(np.uint16)
    path = tmp_path / f"tokens.{suffix}"
    tokens.tofile(path) if suffix == "bin" else np.save(path, tokens)
    data = text(str(path), context=10)
    assert data.info == {"vocabulary": tokens.max() + 1, "context": 10}
    assert data.train.resident() == ()
    assert np.array_equal(data.train.rows(0, 99)[:, :10].ravel(), tokens[:350])
    drawn = data.train.draw(0, 7, 9, 4)
    assert (drawn.shape, drawn.dtype) == ((2, 4, 11), np.int32)
    wide = text(str(path), context=10, tokens="bytes", vocabulary=65_536)
    assert (wide.info["vocabulary"], wide.info["decode"]([104, 105])) == (65_536, "hi")


def test_a_file_of_tokenizers(tmp_path, refused):
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    content = "the cat sat on the mat. " * 30
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator([content], tokenizers.trainers.BpeTrainer(vocab_size=40))
    tokenizer.save(str(tmp_path / "tokens.json"))
    data = text(write(tmp_path, content, "a.txt"), tokens=str(tmp_path / "tokens.json"), context=8)
    ids = data.info["encode"](content)
    assert data.info["vocabulary"] == tokenizer.get_vocab_size() > ids.max()
    assert data.info["decode"](ids) == content
    assert len(ids) < len(content)
    refused(lambda: text(tokens=write(tmp_path, "{}", "none.json")), ["none.json' is no file of tokenizers"])


def test_a_tokenizer_asks_for_its_package(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    path, tokens = write(tmp_path, "abc" * 99, "a.txt"), write(tmp_path, "{}", "tokens.json")
    refused(lambda: text(path, tokens=tokens), ["tokens.json", "pip install tokenizers", "'bytes'"])


@pytest.mark.parametrize("name", DATA)
def test_every_key_has_a_type_and_a_meaning(name):
    """The configuration checks keys by the signature, and shows their meaning from the docstring."""
    factory = DATA[name]
    parameters, hints = inspect.signature(factory).parameters, get_type_hints(factory)
    assert "seed" in parameters
    for key in parameters:
        assert key in hints
        assert f"\n        {key}: " in factory.__doc__ or f"\n    {key}: " in inspect.getdoc(factory)


def damaged(name, *, magic=None, cut=None, array=None):
    def mistake(folder):
        write_idx(folder / name, FILES[name] if array is None else array, magic, cut)
        idx(str(folder))

    return mistake


def table(content, **settings):
    return lambda folder: csv(write(folder, content), **{"test_fraction": 0, **settings})


def of_text(content, **settings):
    return lambda folder: text(write(folder, content, "a.txt"), **settings)


def of_tokens(content, suffix="bin", **settings):
    def mistake(folder):
        path = folder / f"a.{suffix}"
        np.save(path, content) if suffix == "npy" else path.write_bytes(content.tobytes())
        text(str(path), context=4, **settings)

    return mistake


def of_arrays(settings, **content):
    def mistake(folder):
        np.savez(folder / "a.npz", **content)
        arrays_file(str(folder / "a.npz"), **settings)

    return mistake


def cut_npz(folder):
    np.savez(folder / "a.npz", x=IMAGES)
    (folder / "b.npz").write_bytes((folder / "a.npz").read_bytes()[:100])
    arrays_file(str(folder / "b.npz"))


def cut_npy(folder):
    np.save(folder / "a.npy", np.arange(99))
    (folder / "a.npy").write_bytes((folder / "a.npy").read_bytes()[:-9])
    text(str(folder / "a.npy"))


def cut_gzip(folder):
    packed = gzip.compress(bytes(999))
    (folder / "train-images-idx3-ubyte").unlink()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
    idx(str(folder))


def no_gzip(folder):
    (folder / "train-images-idx3-ubyte").rename(folder / "train-images-idx3-ubyte.gz")
    idx(str(folder))


def without(name):
    def mistake(folder):
        (folder / name).unlink()
        idx(str(folder))

    return mistake


TEN = np.arange(10)
# What is wrong, the mistake in a folder of good IDX files, and what the line must say.
MISTAKES = {
    "no such file": (lambda f: csv(write(f, TABLE)[:-3] + "cvs"), ["path = ", "did you mean 'table.csv'?"]),
    "no such folder": (lambda f: csv(str(f / "no" / "a.csv")), ["there is no such file"]),
    "a folder for a file": (lambda f: text(str(f)), ["is a folder, and must be a file"]),
    "an empty file": (of_text(""), ["a.txt' is an empty file"]),
    "a file for a folder": (lambda f: idx(write(f, TABLE)), ["is a file, and must be a folder"]),
    "no folder": (lambda f: idx(str(f / "none")), ["is not there, and must be a folder"]),
    "IDX missing": (without("t10k-images-idx3-ubyte"), ["t10k-images-idx3-ubyte", "there is no such file"]),
    "IDX cut": (damaged("train-images-idx3-ubyte", cut=-1), ["cut short", "(8, 4, 5), 160 bytes, and 159 follow"]),
    "IDX cut in its header": (damaged("train-images-idx3-ubyte", cut=9), ["ends within its header"]),
    "IDX cut in gzip": (cut_gzip, ["idx3-ubyte.gz", "cut short?"]),
    "IDX no gzip": (no_gzip, ["idx3-ubyte.gz", "Not a gzipped file"]),
    "IDX of floats": (
        damaged("train-images-idx3-ubyte", magic=bytes([0, 0, 13, 3])), ["00 00 0d 03", "with 00 00 08 03"],
    ),
    "IDX exchanged": (
        damaged("train-labels-idx1-ubyte", array=IMAGES), ["of labels with 00 00 08 01", "exchanged?"],
    ),
    "IDX empty": (damaged("train-images-idx3-ubyte", array=IMAGES[:0]), ["is empty", "(0, 4, 5)"]),
    "IDX counts": (damaged("train-labels-idx1-ubyte", array=LABELS), ["8 images and 12 labels for train"]),
    "IDX labels": (
        damaged("t10k-labels-idx1-ubyte", array=np.array([0, 1, 9, 2], np.uint8)),
        ["label of the test part is 9", "classes are 0 to 2"],
    ),
    "a fraction above 1": (lambda f: digits(test_fraction=1.5), ["test_fraction = 1.5", "below 1"]),
    "a fraction of all": (table(TABLE, test_fraction=0.99), ["of 5 examples leaves none to train on"]),
    "CSV ragged": (table("a,b\n1,2\n3\n"), ["line 3", "has 1 fields, and the first line has 2"]),
    "CSV wider": (table("a,b\n1,2,3\n1,2,3\n"), ["line 2", "has 3 fields"]),
    "CSV text": (table("a,b\n1,2\n\n3,x\n"), ["line 4, column 'b': 'x' is no finite number", "number the classes"]),
    "CSV gap": (table("a,b\n1,2\n,3\n"), ["line 3, column 'a': '' is no finite number"]),
    "CSV nan": (table("a,b\n1,nan\n3,4\n"), ["line 2, column 'b': 'nan'"]),
    "CSV half a header": (table("a,2\n1,3\n"), ["line 1, column '0': 'a'", "header = true"]),
    "CSV header alone": (table("a,b\n"), ["has no rows"]),
    "CSV blank": (table("\n\n"), ["has no rows"]),
    "CSV column": (table(TABLE, target="knd"), ["target = 'knd'", "did you mean 'kind'?"]),
    "CSV number of a column": (table(TABLE, target=3), ["target = 3", "0 to 2"]),
    "CSV one column": (table("a\n1\n"), ["1 column, and must have the target"]),
    "CSV delimiter": (table(TABLE, delimiter=", "), ["delimiter = ', '", "one character"]),
    "CSV classes": (table("a,b\n1,2.5\n", task="classification"), ["row 1, column 'b': 2.5", "'regression'?"]),
    "CSV no UTF-8": (table(b"a,b\n" + b"1,2\n" * 9999 + b"1,\xff\n"), ["byte 40002, 0xff, is not UTF-8"]),
    "CSV task": (table(TABLE, task="classify"), ["task = 'classify'", "did you mean 'classification'?"]),
    "text no UTF-8": (of_text(b"abc\xe9def"), ["byte 3, 0xe9, is not UTF-8"]),
    "text short": (of_text("ab" * 9), ["context = 64", "to train on has 16 tokens", "65 at least"]),
    "test short": (of_text("ab" * 99, context=32), ["to test on has 20 tokens"]),
    "no test": (of_text("ab" * 3, context=4, test_fraction=0.01), ["to test on has 1 tokens"]),
    "context": (of_text("ab", context=0), ["context = 0"]),
    "text fraction": (of_text("ab", test_fraction=-1), ["test_fraction = -1"]),
    "vocabulary of text": (of_text("ab", vocabulary=9), ["vocabulary = 9 is for files of tokens"]),
    "no tokenizer": (of_text("ab", tokens="bites"), ["tokens = 'bites'", "no such file"]),
    "unknown character": (
        lambda f: text(write(f, "ab" * 99, "a.txt"), context=4).info["encode"]("abz"), ["'z'", "data.tokens = 'bytes'"],
    ),
    "text and tokens": (of_text("ab", test="b.bin"), ["'b.bin'", "both must be alike"]),
    "dtype of tokens": (of_tokens(TEN, dtype="int16"), ["dtype = 'int16'", "did you mean 'uint16'?"]),
    "tokens cut": (of_tokens(np.arange(99, dtype=np.uint8)), ["99 bytes, no multiple of the 2", "'uint16'"]),
    "tokens beyond": (of_tokens(TEN.astype(np.uint16), vocabulary=9), ["token 9", "vocabulary = 9 has 0 to 8"]),
    "tokens below": (of_tokens(-TEN, "npy"), ["token -9", "count from 0"]),
    "tokens of floats": (of_tokens(TEN * 1.0, "npy"), ["float64 (10,)", "integers (tokens,)"]),
    "tokens none": (of_tokens(TEN[:0], "npy"), ["(0,)", "integers (tokens,)"]),
    "tokens cut in npy": (cut_npy, ["a.npy", "cut short?"]),
    "npz cut": (cut_npz, ["b.npz", "cut short?"]),
    "npz no npz": (lambda f: arrays_file(write(f, TABLE)), ["neither an .npz nor an .npy"]),
    "npz of objects": (of_arrays({"y": ""}, x=np.array([{}])), ["a.npz", "allow_pickle"]),
    "npz name": (of_arrays({"x": "imges"}, images=IMAGES, y=LABELS), ["'imges'", "did you mean 'images'?"]),
    "npz text": (of_arrays({"y": ""}, x=np.array(["a"])), ["x is of dtype <U1"]),
    "npz complex": (of_arrays({"y": ""}, x=np.array([1j])), ["x is of dtype complex128", "must be real"]),
    "npz half a test": (of_arrays({"test_x": "x"}, x=IMAGES, y=LABELS), ["test_x = 'x', test_y = ''"]),
    "arrays differ": (lambda f: arrays(IMAGES, LABELS[:5]), ["shapes (12, 4, 5), (5,)", "first axes must agree"]),
    "arrays empty": (lambda f: arrays(IMAGES[:0]), ["has no examples"]),
    "no arrays": (lambda f: arrays({}), ["has no examples"]),
    "a list": (lambda f: arrays([[1, 2], [3, 4]]), ["x[0][0] is the single number 1", "np.asarray"]),
    "labels below": (lambda f: arrays(TEN, TEN - 1), ["label of the train part is -1", "count from 0"]),
    "large integers": (lambda f: arrays(np.array([2**40])), ["int64", "do not fit into int32"]),
    "two tests": (lambda f: arrays(TEN, test=TEN, test_fraction=0.1), ["must be 0 where test is given"]),
    "test without targets": (lambda f: arrays(IMAGES, LABELS, test=IMAGES), ["test has the structure"]),
    "test of other shape": (lambda f: arrays(IMAGES, test=IMAGES[:, 1:]), ["shape (3, 5)", "(4, 5)"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_bad_data_are_one_line(folder, refused, kind):
    mistake, parts = MISTAKES[kind]
    refused(lambda: mistake(folder), parts)
