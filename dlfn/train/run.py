"""The folder of a run: the resolved configuration, the metrics and the trained parameters."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dlfn.core import InputError
from dlfn.files import replacing, require_writable, write_text
from dlfn.train.config import Config, to_toml

__all__ = ["RunFolder"]

_FILES = _CONFIG, _METRICS, _PARAMS = "config.toml", "metrics.jsonl", "params.npz"
_UNFINISHED, _FINISHED = "unfinished", ".finished"


class RunFolder:
    """Where a run writes. It replaces an earlier run in the folder, once it has succeeded.

    Until then its files are in ``unfinished`` inside the folder: ``config.toml`` is there from the start,
    ``metrics.jsonl`` grows line by line, ``params.npz`` comes at the end. What has failed or was killed stays there
    until the next run. A success renames ``unfinished`` to ``.finished``, which is one step, and moves the files from
    there; the next run moves those that a kill has left. Other files in the folder are left alone.

    Raises:
        InputError: when the folder holds files but no run, when ``unfinished`` holds what no run has written, and when
            the folder cannot be written.
    """

    def __init__(self, config: Config):
        self.path = Path(config.run.folder)
        self.unfinished = self.path / _UNFINISHED
        self._config = to_toml(config)
        name = f"run.folder = {str(self.path)!r}"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{name} is a file; choose a folder")
        runs = (self.path, self.unfinished, self.path / _FINISHED)
        if self.path.is_dir() and any(self.path.iterdir()) and not any((run / _CONFIG).is_file() for run in runs):
            raise InputError(f"{name} holds files but no run; choose a new or an empty folder")
        if others := sorted(p.name for p in self.unfinished.glob("[!.]*") if p.name not in _FILES):
            raise InputError(f"{str(self.unfinished)!r} holds {others[0]!r}, which no run wrote; move it elsewhere")
        try:
            for file in _FILES:
                require_writable(self.path / file)
            require_writable(self.unfinished / _CONFIG)
        except OSError as error:
            raise InputError(f"cannot write to {name}: {error.strerror}") from None

    def start(self) -> None:
        """Makes the folder of the unfinished run, or empties it of one that failed, and writes the configuration."""
        self._take_over()
        self.unfinished.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            # With what a kill has left of a file that was being written.
            for left in (self.unfinished / name, *self.unfinished.glob(f".{name}.*")):
                left.unlink(missing_ok=True)
        write_text(self.unfinished / _CONFIG, self._config)

    def finish(self) -> None:
        """Puts the run, which has succeeded, in the place of the earlier one."""
        with (self.unfinished / _METRICS).open("rb") as file:
            os.fsync(file.fileno())
        self.unfinished.replace(self.path / _FINISHED)
        self._take_over()

    def _take_over(self) -> None:
        finished = self.path / _FINISHED
        if finished.is_dir():
            for file in finished.iterdir():
                file.replace(self.path / file.name)
            finished.rmdir()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line to ``metrics.jsonl``; what is not finite becomes null."""
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with (self.unfinished / _METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def save_params(self, params: Any) -> None:
        """Writes the arrays of ``params``, each in its own dtype, by tree path: ``hidden_0/linear/w``."""
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        arrays: dict[str, Any] = {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves
        }
        with replacing(self.unfinished / _PARAMS) as file:
            np.savez(file, **arrays)
