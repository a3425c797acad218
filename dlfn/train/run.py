"""The folder of a run: the resolved configuration, the metrics and the trained parameters."""

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dlfn.core import InputError
from dlfn.files import replacing, require_writable, write_text
from dlfn.train.config import Config, to_toml
from dlfn.train.lock import Lock

__all__ = ["RunFolder"]

_FILES = _CONFIG, _METRICS, _PARAMS = "config.toml", "metrics.jsonl", "params.npz"
_UNFINISHED, _FINISHED = "unfinished", ".finished"


class RunFolder:
    """Where a run writes. It replaces an earlier run in the folder, once it has succeeded.

    Until then its files are in ``unfinished`` inside the folder: ``config.toml`` is there from the start,
    ``metrics.jsonl`` grows line by line, ``params.npz`` comes at the end. What has failed or was killed stays there
    until the next run. A success renames ``unfinished`` to ``.finished``, which is one step, and moves the files from
    there; the next run moves those that a kill has left. Other files in the folder are left alone.

    From ``start`` to ``finish`` or ``close`` no other run can start in the folder.

    Raises:
        InputError: when the folder holds files but no run, when ``unfinished`` holds what no run has written, when a
            name that a run needs stands for something else, when the folder cannot be written, and by ``start`` when
            another run is at work in it.
    """

    def __init__(self, config: Config):
        self.path = Path(config.run.folder)
        self.unfinished = self.path / _UNFINISHED
        self._config, self._lock = to_toml(config), Lock()
        name = f"run.folder = {str(self.path)!r}"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{name} is a file; choose a folder")
        runs = (self.path, self.unfinished, self.path / _FINISHED)
        for run in runs[1:]:
            if os.path.lexists(run) and (run.is_symlink() or not run.is_dir()):
                what = "a link" if run.is_symlink() else "a file"
                raise InputError(f"{str(run)!r} is {what}, and must be a folder that a run makes; move it elsewhere")
        for path in (run / file for run in runs for file in _FILES):
            if path.is_dir():
                raise InputError(f"{str(path)!r} is a folder, and must be a file that a run writes; move it elsewhere")
        if self.path.is_dir() and any(self.path.iterdir()) and not any((run / _CONFIG).is_file() for run in runs):
            raise InputError(f"{name} holds files but no run; choose a new or an empty folder")
        for run in runs[1:]:
            if others := _visible_others(run):
                raise InputError(f"{str(run)!r} holds {others[0]!r}, which no run wrote; move it elsewhere")
        try:
            require_writable(self.path / _CONFIG)
            require_writable(self.unfinished / _CONFIG)
        except OSError as error:
            raise InputError(f"cannot write to {name}: {error.strerror}") from None

    def start(self) -> None:
        """Makes the folder of the unfinished run, or empties it of one that failed, and writes the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire(self.path):
            raise InputError(
                f"run.folder = {str(self.path)!r} is in use by another run; wait for its end, or choose another folder"
            )
        self._take_over()
        self.unfinished.mkdir(exist_ok=True)
        for name in _FILES:
            (self.unfinished / name).unlink(missing_ok=True)
        _remove_hidden(self.unfinished)
        write_text(self.unfinished / _CONFIG, self._config)

    def finish(self) -> None:
        """Puts the run, which has succeeded, in the place of the earlier one, and closes the folder."""
        with (self.unfinished / _METRICS).open("rb") as file:
            os.fsync(file.fileno())
        self.unfinished.replace(self.path / _FINISHED)
        self._take_over()
        self.close()

    def close(self) -> None:
        """Lets other runs start in the folder. So does the end of the process, whatever ends it."""
        self._lock.release()

    def _take_over(self) -> None:
        finished = self.path / _FINISHED
        if not finished.is_dir():
            return
        for name in _FILES:
            if os.path.lexists(finished / name):  # and was not moved before a kill
                (finished / name).replace(self.path / name)
        _remove_hidden(finished)
        if _visible_others(finished):  # which somebody has put there during the run; the next one asks to move them
            finished.replace(self.unfinished)
        else:
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


def _visible_others(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*") if path.name not in _FILES)


def _remove_hidden(folder: Path) -> None:
    """Removes what a kill has left of a file that was being written, and what tools make of their own accord, such as
    ``.ipynb_checkpoints``."""
    for path in folder.glob(".*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
