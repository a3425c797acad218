"""What is in the folders of runs."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlfn.core import InputError

__all__ = ["Record", "Series", "read_runs"]

Series = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Record:
    """A run as its folder has it.

    Attributes:
        name: of the folder, as far up as it takes to tell it from the others.
        series: steps and values of everything that was measured, by name. What was not finite is left out.
        configuration: by dotted keys.
        environments: one for each time that the run began or went on.
        results: the final metrics, or the last ones of a run that has not finished.
    """

    name: str
    folder: Path
    series: dict[str, Series]
    configuration: dict[str, Any]
    environments: list[dict[str, Any]]
    results: dict[str, float]
    finished: bool

    @property
    def steps(self) -> int:
        return max((steps[-1] for steps, _ in self.series.values()), default=0)


def read_runs(folders: Sequence[Path]) -> list[Record]:
    """The runs in folders.

    Raises:
        InputError: where a folder holds no run, or a file in it is damaged.
    """
    return [_read(folder, name) for folder, name in zip(folders, _names(folders))]


def _read(folder: Path, name: str) -> Record:
    if not (folder / "config.toml").is_file():
        raise InputError(f"{str(folder)!r} holds no run: there is no config.toml in it")
    try:
        configuration = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {str(folder / 'config.toml')!r}: {error}") from None
    series: dict[str, Series] = {}
    for line in _lines(folder / "metrics.jsonl"):
        step = line.pop("step", 0)
        for key, value in line.items():
            if isinstance(value, (int, float)):
                steps, values = series.setdefault(key, ([], []))
                steps.append(step)
                values.append(value)
    path = folder / "finished.json"
    finished = path.is_file()
    results = next(_lines(path), {}) if finished else {key: values[-1] for key, (_, values) in series.items()}
    results = {key: v for key, v in results.items() if key.startswith(("train/", "test/")) and v is not None}
    environments = list(_lines(folder / "environment.jsonl"))
    return Record(name, folder, series, dict(_flat(configuration)), environments, results, finished)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines. A run at work may have written half of the last one."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            yield dict(json.loads(line))
        except (TypeError, ValueError):
            if number < len(lines) or line.endswith(b"\n"):
                raise InputError(
                    f"{str(path)!r}, line {number}, is no JSON object; it was changed or damaged"
                ) from None


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many before it as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    lengths = range(1, max(map(len, parts)))
    told_apart = (n for n in lengths if len({p[-n:] for p in parts}) == len(set(parts)))
    length = next(told_apart, len(lengths))
    return ["/".join(p[-length:]) for p in parts]
