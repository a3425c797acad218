"""Labelled images: the digits in the package, and folders of IDX files such as Fashion-MNIST."""

import gzip
import math
from importlib.resources import files
from pathlib import Path

import numpy as np

from dlfn.core import InputError
from dlfn.train.data.in_memory import held_out, labelled, scaled
from dlfn.train.data.reading import existing_file, readable
from dlfn.train.data.source import Dataset

__all__ = ["digit_images", "digits", "idx"]

_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FASHION_LABELS = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_UNSIGNED_BYTES = 8  # the code of IDX


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """The digits as they are in the package: images (1797, 8, 8) of counts from 0 to 16, and labels (1797,), in uint8.

    They are the test set of UCI's "Optical Recognition of Handwritten Digits" (CC BY 4.0), the same as scikit-learn's
    ``load_digits``; dlfn/train/digits/README.md names source and licence.
    """
    with (files("dlfn.train") / "digits" / "digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["images"], arrays["labels"]


def digits(seed: int = 0, test_fraction: float = 0.2, standardise: bool = True) -> Dataset:
    """Handwritten digits: 1,797 images (8, 8) of 10 classes, by 13 writers, in the package.

    The split is stratified by class and drawn by ``seed``: the data's own order is by writer, and an unshuffled tail
    would test on other writers than it trains on.

    Args:
        seed: of the choice of the test images.
        test_fraction: the part of the images that is held out for the test; 0 for none.
        standardise: by the training images' mean and standard deviation over all pixels; otherwise pixels are from 0 to
            1, as the Bernoulli likelihood of an autoencoder has them.

    >>> data = digits(standardise=False)
    >>> x, y = data.test.rows(0, 360)
    >>> x.shape, float(x.max()), y[:5].tolist(), data.info["outputs"]
    ((360, 8, 8), 1.0, [0, 6, 9, 1, 5], 10)
    """
    images, labels = digit_images()
    return _images((images, labels), None, seed, test_fraction, standardise, 16, tuple("0123456789"))


def idx(path: str = "fashion", *, standardise: bool = True, test_fraction: float = 0.0, seed: int = 0) -> Dataset:
    """Images in a folder of IDX files, the format of the MNIST database of Y. LeCun, C. Cortes and C. Burges:
    ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and the same of ``t10k``, each plain or with ``.gz``.

    They stay bytes on the device, and become numbers batch by batch.

    Args:
        path: the folder; ``fashion`` is Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747), 70,000
            images (28, 28) of 10 kinds of clothes, from the Debian package dataset-fashion-mnist, unless there is a
            folder of that name.
        standardise: by the training images' mean and standard deviation over all pixels; otherwise pixels are from 0 to
            1.
        test_fraction: above 0, this part of the training images is what is tested on, and the folder's own test
            images, on which no setting should be chosen, are left alone.
        seed: of the choice of that part.

    Raises:
        InputError: where a file is missing, cut short, or of another format, the counts of images and labels differ, or
            a label of the test images is of no class.

    >>> import tempfile
    >>> images, labels = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1]), bytes([0, 0, 8, 1, 0, 0, 0, 2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part in ("train", "t10k"):
    ...         _ = (Path(folder) / f"{part}-images-idx3-ubyte").write_bytes(images + bytes([0, 255]))
    ...         _ = (Path(folder) / f"{part}-labels-idx1-ubyte").write_bytes(labels + bytes([0, 1]))
    ...     data = idx(folder, standardise=False)
    >>> data.test.rows(0, 2)
    (array([[[0.]], [[1.]]], dtype=float32), array([0, 1], dtype=int32))
    """
    folder = Path(path).expanduser()
    if path == "fashion" and not folder.exists():
        folder = _FASHION
        if not folder.is_dir():
            raise InputError(
                f"Fashion-MNIST is not at {str(folder)!r}; install it (Debian, Ubuntu: apt install "
                "dataset-fashion-mnist), or give its folder by path = …"
            )
    if not folder.is_dir():
        raise InputError(f"path = {path!r} is {'a file' if folder.exists() else 'not there'}, and must be a folder")
    names = _FASHION_LABELS if "fashion" in folder.name.lower() else None
    train, test = _part(folder, "train"), _part(folder, "t10k")
    return _images(train, None if test_fraction else test, seed, test_fraction, standardise, 255, names)


_Examples = tuple[np.ndarray, np.ndarray]


def _images(
    train: _Examples,
    test: _Examples | None,
    seed: int,
    test_fraction: float,
    standardise: bool,
    largest: int,
    names: tuple[str, ...] | None,
) -> Dataset:
    """Of images in bytes, which may be up to ``largest``."""
    images, labels = train
    if test is None:
        trained, tested = held_out(labels, seed, test_fraction)
        test = images[tested], labels[tested]
        images, labels = images[trained], labels[trained]
    info = {} if names is None else {"labels": names}
    return labelled((images, labels), test if len(test[0]) else None, scaled(images, standardise, largest), **info)


def _part(folder: Path, part: str) -> _Examples:
    images, labels = _read(folder, f"{part}-images-idx3-ubyte", 3), _read(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise InputError(
            f"{str(folder)!r} has {len(images)} images and {len(labels)} labels for {part}; are they of one data set?"
        )
    return images, labels


def _read(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """The array in an IDX file: two zeros, the type, the number of dimensions, each as four bytes, and the bytes."""
    path = folder / f"{name}.gz" if not (folder / name).exists() and (folder / f"{name}.gz").exists() else folder / name
    path = existing_file(path)
    with readable(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    magic = bytes([0, 0, _UNSIGNED_BYTES, dimensions])
    if content[:4] != magic:
        what = "labels" if dimensions == 1 else "images"
        raise InputError(
            f"{str(path)!r} begins with {content[:4].hex(' ')}, and an IDX file of {what} with {magic.hex(' ')}; "
            "is it another format, or are images and labels exchanged?"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise InputError(f"{str(path)!r} is cut short: it ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) != start + math.prod(shape):
        raise InputError(
            f"{str(path)!r} is cut short or damaged: its header says {shape}, {math.prod(shape)} bytes, and "
            f"{len(content) - start} follow"
        )
    if not math.prod(shape):
        raise InputError(f"{str(path)!r} is empty: its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
