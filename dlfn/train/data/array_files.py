"""Arrays in NumPy's files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.data.in_memory import arrays, labelled, scaled
from dlfn.train.data.reading import existing_file, readable
from dlfn.train.data.source import Dataset

__all__ = ["arrays_file"]


def arrays_file(
    path: str,
    *,
    x: str = "x",
    y: str = "y",
    test_x: str = "",
    test_y: str = "",
    test_fraction: float = 0.0,
    standardise: bool = False,
    seed: int = 0,
) -> Dataset:
    """Arrays in an ``.npz`` file, by their names, or one array of inputs alone in an ``.npy`` file.

    Targets are labels where they are integers (examples,); others are targets of a regression, and (examples,) becomes
    (examples, 1), the shape of a model's outputs.

    Args:
        path: the file.
        x: the name of the inputs in it.
        y: the name of the targets; empty for none.
        test_x: the name of the inputs to test on; empty for none.
        test_y: the name of their targets.
        test_fraction: without ``test_x``, the part of the examples that is held out for the test; 0 for none.
        standardise: the inputs, by mean and standard deviation of all numbers of those to train on. Bytes stay bytes
            on the device until then. Otherwise the inputs are left as they are.
        seed: of the choice of what is held out.

    Raises:
        InputError: where the file cannot be read, is of another format, holds objects, which only pickle reads, has no
            array of such a name, and where :func:`arrays` refuses the arrays.

    >>> from importlib.resources import files
    >>> path = str(files("dlfn.train") / "digits" / "digits.npz")
    >>> data = arrays_file(path, x="images", y="labels", test_fraction=0.2, standardise=True)
    >>> data.train.size, data.test.size, data.info["outputs"], data.info["input_scale"][1] > 1
    (1437, 360, 10, True)
    """
    file = existing_file(path)
    with readable(file), file.open("rb") as opened:
        start = opened.read(6)
    if not start.startswith((b"PK", b"\x93NUMPY")):
        raise InputError(f"{str(file)!r} is neither an .npz nor an .npy file; np.savez and np.save write them")
    if bool(test_y) != bool(test_x and y):
        raise InputError(f"test_x = {test_x!r}, test_y = {test_y!r}: give both, or none; without y test_x alone")
    with readable(file), file.open("rb") as opened:  # np.load would leave a damaged one open
        loaded = np.load(opened, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            examples, tests = loaded, None
        else:
            with loaded:
                examples = _named(file, loaded, x, y)
                tests = _named(file, loaded, test_x, test_y) if test_x else None
    data = arrays(examples, test=tests, test_fraction=test_fraction, seed=seed)
    if not standardise:
        return data
    train = data.train.resident()
    prepare = scaled(train[0] if isinstance(train, tuple) else train, standardise, largest=1)
    return labelled(train, None if data.test is None else data.test.resident(), prepare)


def _named(file: Path, loaded: Mapping[str, np.ndarray], x: str, y: str) -> Any:
    for name in filter(None, (x, y)):
        if name not in loaded:
            raise InputError(f"{str(file)!r} has no array {name!r}; {suggestion(name, loaded)}")
    if not y:
        return loaded[x]
    targets = loaded[y]
    return loaded[x], targets[:, None] if targets.ndim == 1 and targets.dtype.kind == "f" else targets
