"""The folder of a run: the resolved configuration, the metrics and the trained parameters."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dlfn.core import InputError
from dlfn.files import replacing, require_writable, write_text
from dlfn.train.config import Config, to_toml

__all__ = ["RunFolder"]

_CONFIG, _METRICS, _PARAMS = "config.toml", "metrics.jsonl", "params.npz"


class RunFolder:
    """Where a run writes. An earlier run in the folder is replaced, and nothing of it stays.

    ``config.toml`` is there from the start, ``metrics.jsonl`` grows line by line, ``params.npz`` comes at the end.

    Raises:
        InputError: when the folder holds files but no run, and when it cannot be written.
    """

    def __init__(self, config: Config):
        self.path = Path(config.run.folder)
        self._config = to_toml(config)
        name = f"run.folder = {str(self.path)!r}"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{name} is a file; choose a folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / _CONFIG).is_file():
            raise InputError(f"{name} holds files but no run; choose a new or an empty folder")
        try:
            require_writable(self.path / _CONFIG)
        except OSError as error:
            raise InputError(f"cannot write to {name}: {error.strerror}") from None

    def start(self) -> None:
        """Makes the folder, or empties it of the earlier run, and writes the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (_PARAMS, _METRICS):
            (self.path / name).unlink(missing_ok=True)
        write_text(self.path / _CONFIG, self._config)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line to ``metrics.jsonl``; what is not finite becomes null."""
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with (self.path / _METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def save_params(self, params: Any) -> Path:
        """Writes the arrays of ``params``, each in its own dtype, by tree path: ``hidden_0/linear/w``."""
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        arrays: dict[str, Any] = {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves
        }
        with replacing(self.path / _PARAMS) as file:
            np.savez(file, **arrays)
        return self.path / _PARAMS
