"""The folder of a run: what it was asked for, what it has measured, its checkpoints and the trained parameters."""

import contextlib
import itertools
import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from dlfn.core import InputError
from dlfn.files import replacing, require_writable, write_text
from dlfn.train.lock import Lock
from dlfn.train.tensorboard import Events, require_tensorboard
from dlfn.weights import save_params

__all__ = ["RunFolder"]

_CONFIG, _METRICS, _ENVIRONMENT = "config.toml", "metrics.jsonl", "environment.jsonl"
_PARAMS, _FINISHED, _CHECKPOINTS = "params.safetensors", "finished.json", "checkpoints"
_EVENTS = "tensorboard"
_FILES = _CONFIG, _METRICS, _ENVIRONMENT, _PARAMS, _FINISHED


class RunFolder:
    """Where a run writes, and from where the same run goes on after an interruption. Nothing in it is ever deleted.

    ``config.toml`` is there from the start, ``environment.jsonl`` gets a line each time that the run begins or goes on,
    and ``metrics.jsonl`` grows line by line; ``checkpoints`` is for :class:`dlfn.train.checkpoints.Checkpoints`. At the
    end come ``params.safetensors`` and then ``finished.json`` with the final metrics. Files of the user may lie beside
    them. From :meth:`start` to :meth:`close`, or to the end of the process, no other run can start in the folder. Of a
    program in several processes, the first writes.

    Args:
        path: the folder, which need not exist.
        config: the configuration, with every key, in TOML. Its tables ``run`` and ``mesh`` may differ from those of
            an earlier start.
        fresh: whether a run that the folder holds is moved aside, to ``NAME.1`` or the next free number.
        tensorboard: whether the metrics go to ``tensorboard`` too, as files of events.

    Raises:
        InputError: when the folder holds a run of another configuration, or files but no run; when a name that a run
            needs stands for something else; and when the folder cannot be written.

    >>> import tempfile
    >>> import numpy as np
    >>> from dlfn.train.run import RunFolder
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = RunFolder(f"{parent}/run", "seed = 1")
    ...     folder.start()
    ...     folder.log(10, {"train/loss": 0.5})
    ...     folder.finish({"w": np.ones(2)}, {"train/loss": 0.5})
    ...     folder.close()
    ...     print(RunFolder(f"{parent}/run", "seed = 1").finished)
    ...     RunFolder(f"{parent}/run", "seed = 2")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dlfn.core.errors.InputError: run.folder = '...run' holds a run with seed = 1, and now it is seed = 2; ...
    """

    def __init__(self, path: str | Path, config: str, *, fresh: bool = False, tensorboard: bool = False):
        if tensorboard:
            require_tensorboard()
        self.path, self._tensorboard = Path(path), tensorboard
        self._events: Events | None = None
        self.moved: Path | None = None  # where an earlier run went
        self._config, self._fresh, self._lock = config, fresh, Lock()
        self._name = f"run.folder = {str(self.path)!r}"
        self._inspect()

    @property
    def checkpoints(self) -> Path:
        """The folder for them."""
        return self.path / _CHECKPOINTS

    @property
    def finished(self) -> dict[str, Any] | None:
        """The final metrics of the run in the folder, if it has finished and is not to be moved aside."""
        path = self.path / _FINISHED
        if self._fresh or not path.is_file():
            return None
        try:
            return json.loads(path.read_bytes())
        except ValueError:
            raise InputError(
                f"{str(path)!r} is not JSON, so that it was changed; remove it, and the run ends again from its last "
                "checkpoint"
            ) from None

    def start(self) -> None:
        """Makes the folder and takes its lock, after moving an earlier run aside where that was asked for.

        Raises:
            InputError: when another run is at work in the folder, and as when this was made.
        """
        if jax.process_index() == 0:
            self._start()
        if jax.process_count() > 1:  # what is in the folder is looked at by all, once it is moved aside
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("dlfn.train.run")

    def _start(self) -> None:
        with _writing(self._name):
            if self._fresh and self.path.is_dir():
                self._acquire()
                self._inspect()
                if _visible(self.path):
                    self.path = Path(os.path.abspath(self.path))  # "." would go with the folder that is moved
                    self.moved = self.path.rename(_aside(self.path))
                self._lock.release()
            self._fresh = False
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire()
            self._inspect()  # once more, as other runs may have been here until now
            if not (self.path / _CONFIG).is_file():
                write_text(self.path / _CONFIG, self._config)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends a line to ``metrics.jsonl``; what is not finite becomes null.

        A step's line goes before its checkpoint, or else a kill between the two loses it.
        """
        self._append(_METRICS, _as_json({"step": step, **metrics}))
        if self._events is not None:
            self._events.log(step, metrics)

    def log_environment(self, step: int, environment: Mapping[str, Any]) -> None:
        """Appends a line to ``environment.jsonl``: where the steps after this one are computed."""
        self._append(_ENVIRONMENT, json.dumps({"step": step, **environment}, ensure_ascii=False))

    def rewind(self, step: int) -> None:
        """Cuts the lines of ``metrics.jsonl`` past a step, from which the run goes on, and half a line at the end."""
        path = self.path / _METRICS
        if jax.process_index():
            return
        if self._tensorboard:
            with _writing(repr(str(self.path / _EVENTS))):
                self._events = Events(self.path / _EVENTS, step)
        if not path.exists():
            return
        with _writing(repr(str(path))):
            content = path.read_bytes()
            kept = b"".join(line for line in content.splitlines(keepends=True) if _is_until(step, line))
            if kept != content:
                with replacing(path) as file:
                    file.write(kept)

    def page_about(self, step: int) -> Path:
        """The file for a page that explains a step, whose folder is made."""
        folder = self.path / "explain"
        with _writing(repr(str(folder))):
            folder.mkdir(exist_ok=True)
        return folder / f"step_{step}.html"

    def finish(
        self, params: Any, metrics: Mapping[str, Any], *, state: Any = (), metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes the trained parameters, as :func:`dlfn.weights.load_params` reads them, and marks the run as finished.

        Args:
            params: of the model.
            metrics: the final ones.
            state: of the model, such as the running statistics of batch norm.
            metadata: further text for the file of the parameters.
        """
        if jax.process_index() == 0:
            save_params(self.path / _PARAMS, params, state, metadata=metadata)
            path = self.path / _FINISHED
            with _writing(repr(str(path))):
                write_text(path, _as_json(metrics) + "\n")

    def close(self) -> None:
        """Lets other runs start in the folder. So does the end of the process, whatever ends it."""
        if self._events is not None:
            self._events.close()
        self._lock.release()

    def _append(self, name: str, line: str) -> None:
        if jax.process_index() == 0:
            path = self.path / name
            with _writing(repr(str(path))), path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def _inspect(self) -> None:
        """Refuses the folder for any of the reasons that the class names."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self._name} is a file; choose a folder")
        for path in (*(self.path / name for name in _FILES), self.checkpoints):
            wanted = "folder" if path == self.checkpoints else "file"
            if path.exists() and path.is_dir() != (wanted == "folder"):
                given = "file" if wanted == "folder" else "folder"
                raise InputError(f"{str(path)!r} is a {given}, and must be the {wanted} of a run; move it elsewhere")
        config = self.path / _CONFIG
        if not config.is_file() and self.path.is_dir() and _visible(self.path):
            raise InputError(f"{self._name} holds files but no run; choose a new or an empty folder")
        if config.is_file() and not self._fresh:
            self._compare(config)
        if self.finished is None:
            with _writing(self._name):
                require_writable(config)

    def _compare(self, path: Path) -> None:
        try:
            there = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {str(path)!r}: {error}; --fresh moves that run aside") from None
        here, there = dict(_flat(tomllib.loads(self._config))), dict(_flat(there))
        for key in [*here, *(key for key in there if key not in here)]:
            before, now = _setting(key, there), _setting(key, here)
            if not key.startswith(("run.", "mesh.", "train.explain_every")) and before != now:
                raise InputError(
                    f"{self._name} holds a run with {before}, and now it is {now}; choose another folder with "
                    "run.folder=..., or move that run aside with --fresh"
                )

    def _acquire(self) -> None:
        if not self._lock.acquire(self.path):
            raise InputError(f"{self._name} is in use by another run; wait for its end, or choose another folder")


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    """Makes one line of what the system refuses."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write to {what}: {error.strerror}") from None


def _visible(folder: Path) -> list[Path]:
    """What a person sees. A killed run may leave a hidden file, and tools do so of their own accord."""
    return list(folder.glob("[!.]*"))


def _aside(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _setting(key: str, table: Mapping[str, Any]) -> str:
    return f"{key} = {json.dumps(table[key], default=str, ensure_ascii=False)}" if key in table else f"no {key}"


def _as_json(metrics: Mapping[str, Any]) -> str:
    return json.dumps({name: value if math.isfinite(value) else None for name, value in metrics.items()}, default=float)


def _is_until(step: int, line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False
