"""Tables of numbers: CSV files, and the diabetes data in the package."""

import itertools
from collections.abc import Sequence
from csv import reader
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.data.in_memory import held_out, labelled
from dlfn.train.data.reading import existing_file, is_number, readable, require_choice
from dlfn.train.data.source import Dataset

__all__ = ["csv", "diabetes"]


def csv(
    path: str,
    *,
    target: str | int = -1,
    task: Literal["regression", "classification"] = "regression",
    header: bool | None = None,
    delimiter: str = ",",
    test_fraction: float = 0.2,
    standardise: bool = True,
    seed: int = 0,
) -> Dataset:
    """A table of numbers in UTF-8 text, a row for each example; one column is the target, all others are the inputs.

    The targets of a regression are arrays (rows, 1), those of a classification are int32 labels (rows,), which count
    the different values of the column from 0; their names are in ``info["labels"]``.

    Args:
        path: the file.
        target: the column to predict, by its name in the header or its number, from 0, or from -1 for the last.
        task: what the target is: a number, or one of a few classes, which are whole numbers.
        header: whether the first line has the columns' names; if not given, it has where no field of it is a number.
        delimiter: what stands between fields.
        test_fraction: the part of the rows that is held out for the test; 0 for none.
        standardise: each input, and the target of a regression, by mean and standard deviation of the training rows;
            ``info["input_scale"]`` has those of the inputs, and ``info["target_scale"]`` those of the target, by which
            predictions are turned back.
        seed: of the choice of the test rows; with classes, each has its share.

    Raises:
        InputError: where the file cannot be read, has no rows, has rows of different lengths, a field is no finite
            number, or there is no such column.

    >>> path = str(files("dlfn.train") / "diabetes" / "diabetes.csv")
    >>> data = csv(path, target="sex", task="classification", test_fraction=0.5)
    >>> data.train.size, data.info["outputs"], data.info["labels"]
    (221, 2, ('1', '2'))
    """
    require_choice("task", task, ("regression", "classification"))
    if len(delimiter) != 1:
        raise InputError(f"delimiter = {delimiter!r}: must be one character")
    file = existing_file(path)
    columns, skipped = _columns(file, header, delimiter)
    table = _table(file, columns, skipped, delimiter)
    chosen = _target(target, columns)
    values, x = table[:, chosen], np.delete(table, chosen, axis=1)
    dtype = jax.dtypes.canonicalize_dtype(float)
    info: dict[str, Any] = {"columns": (*columns[:chosen], *columns[chosen + 1 :]), "target": columns[chosen]}
    if task == "classification":
        fractional = np.flatnonzero(values % 1)
        if len(fractional):
            raise InputError(
                f"{str(file)!r}, row {fractional[0] + 1}, column {columns[chosen]!r}: {values[fractional[0]]:g}, and "
                "classes are whole numbers; is it task = 'regression'?"
            )
        classes, y = np.unique(values, return_inverse=True)
        y, info["labels"] = y.astype(np.int32), tuple(f"{value:.0f}" for value in classes)
        trained, tested = held_out(y, seed, test_fraction)
    else:
        trained, tested = held_out(np.zeros(len(table)), seed, test_fraction)
        y = values[:, None]
        if standardise:
            y, mean, deviation = _standardised(y, trained)
            info["target_scale"] = float(mean[0]), float(deviation[0])
        y = y.astype(dtype)
    if standardise:
        x, means, deviations = _standardised(x, trained)
        info["input_scale"] = tuple(means.tolist()), tuple(deviations.tolist())
    x = x.astype(dtype)
    return labelled((x[trained], y[trained]), (x[tested], y[tested]) if len(tested) else None, **info)


def diabetes(seed: int = 0, test_fraction: float = 0.2, standardise: bool = True) -> Dataset:
    """442 patients: ten measurements, and the progression of their diabetes a year later, a regression; in the package.

    dlfn/train/diabetes/README.md names source and licence.

    Args:
        seed: of the choice of the test rows.
        test_fraction: the part of the patients that is held out for the test; 0 for none.
        standardise: each measurement and the target, by mean and standard deviation of the training rows.

    >>> data = diabetes()
    >>> x, y = data.test.rows(0, 89)
    >>> x.shape, y.shape, data.info["columns"][:4]
    ((89, 10), (89, 1), ('age', 'sex', 'bmi', 'bp'))
    """
    with as_file(files("dlfn.train") / "diabetes" / "diabetes.csv") as path:
        return csv(
            str(path),
            target="progression",
            test_fraction=test_fraction,
            standardise=standardise,
            seed=seed,
            header=True,
        )


def _columns(file: Path, header: bool | None, delimiter: str) -> tuple[list[str], int]:
    """The columns' names, which are their numbers where there is no header, and the number of lines above the rows."""
    with readable(file), file.open(encoding="utf-8-sig", newline="") as lines:
        rows = reader(lines, delimiter=delimiter)
        first = next((row for row in rows if row), [])
        line = rows.line_num
        if header is None:
            header = not any(is_number(field) for field in first)
        if not first or (header and not any(rows)):
            raise InputError(f"{str(file)!r} has no rows")
    return ([name.strip() for name in first], line) if header else ([str(i) for i in range(len(first))], 0)


def _table(file: Path, columns: Sequence[str], skipped: int, delimiter: str) -> np.ndarray:
    """All rows in float64. NumPy's reader is quick; where it stops, or what it read is not finite, a second look finds
    the line and the column."""
    with readable(file), file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            table = np.loadtxt(lines, delimiter=delimiter, skiprows=skipped, comments=None, quotechar='"', ndmin=2)
            if table.shape[1] == len(columns) and np.isfinite(table).all():
                return table
            reason = "it is no table of finite numbers"
        except ValueError as error:
            reason = str(error)
        lines.seek(0)
        rows = reader(itertools.islice(lines, skipped, None), delimiter=delimiter)
        for row in rows:
            where = f"{str(file)!r}, line {skipped + rows.line_num}"
            if row and len(row) != len(columns):
                raise InputError(f"{where}: it has {len(row)} fields, and the first line has {len(columns)}")
            for name, field in zip(columns, row):
                if not is_number(field) or not np.isfinite(float(field)):
                    hint = "; every field must be one, so number the classes of a column of names from 0"
                    if not skipped and rows.line_num == 1:
                        hint = "; if this line has the columns' names, header = true"
                    raise InputError(f"{where}, column {name!r}: {field!r} is no finite number{hint}")
    raise InputError(f"cannot read {str(file)!r}: {reason}")


def _target(target: str | int, columns: Sequence[str]) -> int:
    if len(columns) < 2:
        raise InputError(f"the table has {len(columns)} column, and must have the target and at least one input")
    if isinstance(target, str):
        if target in columns:
            return columns.index(target)
        raise InputError(f"target = {target!r}: there is no such column; {suggestion(target, columns)}")
    if not -len(columns) <= target < len(columns):
        raise InputError(f"target = {target}: the table has {len(columns)} columns, 0 to {len(columns) - 1}")
    return target % len(columns)


def _standardised(x: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With mean and deviation of the training rows; a column that is constant there is not divided."""
    mean, deviation = x[trained].mean(axis=0), x[trained].std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return (x - mean) / deviation, mean, deviation
