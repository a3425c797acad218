"""The data sets that a configuration names."""

from collections.abc import Callable

from dlfn.train.data.array_files import arrays_file
from dlfn.train.data.images import digits, idx
from dlfn.train.data.source import Dataset
from dlfn.train.data.tables import csv, diabetes
from dlfn.train.data.texts import text

__all__ = ["DATA"]

# Their keyword arguments are the keys of [data], and their docstrings say what each means.
DATA: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "idx": idx,
    "arrays_file": arrays_file,
    "csv": csv,
    "text": text,
    "diabetes": diabetes,
}
