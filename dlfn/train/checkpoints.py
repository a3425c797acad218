"""Checkpoints of a run: any tree of arrays, saved by Orbax in the background, sealed by checksums and restored exactly.

Orbax writes the arrays of a step into a temporary folder, which it renames once it is complete. Its files have no
checksums, so that a flipped bit would come back as a wrong number. Therefore each step is sealed: ``meta.json`` and at
last ``SHA256SUMS`` join it, and a step without the latter, or with a file that differs from it, is not restored.
``sha256sum --check SHA256SUMS`` inside of a step checks it, too.
"""

import functools
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.files import write_text
from dlfn.train.leaves import as_data, as_leaf, describe, is_host, require_fit, sharding
from dlfn.train.sums import damage, is_sealed, seal, unseal
from dlfn.weights.paths import by_path

__all__ = ["Checkpoints", "Restored"]

_META = "meta.json"
_ITEM = "default"  # what orbax.checkpoint.CheckpointManager calls the one tree of a step
_TEMPORARY = ".orbax-checkpoint-tmp"


class Restored(NamedTuple):
    """A restored step, what was saved with it, and the damaged steps that were skipped, each with the reason."""

    step: int
    tree: Any
    meta: dict[str, Any]
    skipped: list[tuple[int, str]]


class Checkpoints:
    """The checkpoints in a folder: the last few steps and the best few. One process, or one program of several, writes.

    Args:
        folder: one subfolder for each step; it is made by the first save.
        keep_last: how many of the newest steps are kept, at least 1.
        keep_best: how many of the steps with the smallest scores are kept besides.

    Raises:
        InputError: if ``keep_last`` or ``keep_best`` is too small.

    >>> import tempfile
    >>> import jax, jax.numpy as jnp
    >>> from dlfn.train.checkpoints import Checkpoints
    >>> tree = {"w": jnp.arange(3.0), "key": jax.random.key(0)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     checkpoints.save(100, tree, {"epoch": 1})
    ...     restored = checkpoints.restore(jax.eval_shape(lambda: tree))
    ...     checkpoints.close()
    >>> print(restored.step, restored.meta, restored.tree["w"], restored.skipped)
    100 {'epoch': 1} [0. 1. 2.] []
    """

    def __init__(self, folder: str | Path, *, keep_last: int = 2, keep_best: int = 1):
        for name, value, least in (("keep_last", keep_last, 1), ("keep_best", keep_best, 0)):
            if value < least:
                raise InputError(f"Checkpoints: {name} is {value}, and must be at least {least}")
        self.folder = Path(folder).absolute()  # Orbax refuses a relative path
        self._keep_last, self._keep_best = keep_last, keep_best
        self._damaged: set[int] = set()
        self._worker = ThreadPoolExecutor(1, "checkpoints")
        self._pending: tuple[int, Future[None]] | None = None

    def steps(self) -> list[int]:
        """The steps that are complete, in order."""
        return [step for step in self._folders() if is_sealed(self._path(step))]

    def save(self, step: int, tree: Any, meta: Mapping[str, Any], score: float | None = None) -> None:
        """Saves in the background, once the save before has ended: the arrays may be donated when this returns.

        The newest step is not saved a second time.

        Args:
            step: above every earlier one.
            tree: JAX and NumPy arrays in any pytree, in any sharding; typed keys of :func:`jax.random.key`, too.
            meta: what JSON can hold.
            score: by which the best steps are kept, smaller is better. One that is not finite counts as none.

        Raises:
            InputError: on bad arguments, and when this save or the one before it cannot be written. Whatever fails,
                earlier steps stay as they are.
        """
        self.wait()
        valid = [old for old in self.steps() if old not in self._damaged]
        if valid and step <= valid[-1]:
            if step == valid[-1]:
                return
            raise InputError(
                f"save: step is {step}, but {str(self.folder)!r} has one of step {valid[-1]}; restore that and go on "
                "from there, or choose another folder"
            )
        leaves = by_path(tree)
        text = _as_json(meta, score, describe(leaves))
        arrays = {path: as_data(leaf) for path, leaf in leaves.items() if leaf.size}
        if not arrays:
            raise InputError("save: tree has no array with an element, and must have something to save")
        try:
            if jax.process_index() == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                for left in self.folder.glob(f"*{_TEMPORARY}*"):  # by a process that was killed
                    shutil.rmtree(left)
            # What has the step's name is damaged, or else it would have been among the valid ones.
            args = _orbax().args.Composite(**{_ITEM: _orbax().args.PyTreeSave(arrays)})
            self._engine.save(self._path(step), args=args, force=True)
        except Exception as error:
            raise _refusal(self.folder, step, error) from error
        self._damaged.discard(step)
        self._pending = step, self._worker.submit(self._complete, step, text)

    def restore(self, like: Any, *, best: bool = False) -> Restored | None:
        """The newest step that is whole, or the best one.

        Args:
            like: a tree of the structure, shapes and dtypes that were saved: arrays, or
                :class:`jax.ShapeDtypeStruct`. The arrays come back in its shardings, which need not be those that they
                were saved in; without one, on the first device; NumPy arrays come back as such.
            best: whether to take the smallest score, instead of the newest step. Those without one come last.

        Returns:
            None where no save has ever been completed.

        Raises:
            InputError: when the tree does not fit, naming the first leaf that differs, and when all steps are damaged.
        """
        self.wait()
        reasons: dict[int, str] = {}
        whole = (step for step in reversed(self._folders()) if self._is_whole(step, reasons))
        # The best one only after all have been checked, as their scores are in their files.
        step = min(whole, key=self._score, default=None) if best else next(whole, None)
        self._damaged.update(reasons)
        if step is not None:
            saved = json.loads((self._path(step) / _META).read_bytes())
            return Restored(step, self._load(step, like, saved["leaves"]), saved["meta"], list(reasons.items()))
        if any(is_sealed(self._path(step)) for step in reasons):
            details = "; ".join(f"step {step}: {reason}" for step, reason in reasons.items())
            raise InputError(f"no checkpoint in {str(self.folder)!r} is whole: {details}; start anew in another folder")
        return None

    def wait(self) -> None:
        """Waits for the save in the background.

        Raises:
            InputError: when it could not be written.
        """
        if not self._pending:
            return
        step, saving = self._pending
        error = saving.exception()
        self._pending = None  # only now, as Ctrl-C may end the line above
        if jax.process_count() > 1:  # the first process seals, and the others look at what it has done
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("dlfn.train.checkpoints")
        if error is not None:
            raise _refusal(self.folder, step, error) from error

    def close(self) -> None:
        """Waits, and ends the thread. Without it the save in progress at the end of a program is lost."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()

    def _path(self, step: int) -> Path:
        return self.folder / str(step)

    def _folders(self) -> list[int]:
        """The steps that Orbax has committed, in order."""
        return sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdecimal())

    def _is_whole(self, step: int, reasons: dict[int, str]) -> bool:
        if reason := damage(self._path(step)):
            reasons[step] = reason
        return reason is None

    def _score(self, step: int) -> float:
        try:
            score = json.loads((self._path(step) / _META).read_bytes())["score"]
        except (OSError, ValueError, KeyError):  # an old step, in which nobody has looked for damage
            return math.inf
        return math.inf if score is None else score

    def _complete(self, step: int, text: str) -> None:
        """Seals a step once Orbax has committed it, and then removes those that are not to be kept."""
        try:
            self._engine.wait_until_finished()
            if jax.process_index() == 0:
                write_text(self._path(step) / _META, text)
                seal(self._path(step))
        except BaseException:
            if jax.process_index() == 0:  # leave the space to the next attempt
                for left in (self._path(step), *self.folder.glob(f"{step}{_TEMPORARY}*")):
                    shutil.rmtree(left, ignore_errors=True)
            raise
        if jax.process_index() == 0:
            valid = [old for old in self.steps() if old not in self._damaged]
            best = sorted((score, -old) for old in valid if (score := self._score(old)) < math.inf)[: self._keep_best]
            kept = {*valid[-self._keep_last :], *(-old for _, old in best)}
            for old in self._folders():
                if old not in kept:
                    unseal(self._path(old))  # a kill in between leaves what nobody takes for a checkpoint
                    shutil.rmtree(self._path(old))

    def _load(self, step: int, like: Any, saved: Mapping[str, Any]) -> Any:
        ocp, leaves = _orbax(), by_path(like)
        require_fit(f"the checkpoint of step {step} in {str(self.folder)!r}", saved, leaves)
        # Orbax does not save arrays without elements, of which there is nothing to know but the shape.
        loading = {
            path: ocp.RestoreArgs(restore_type=np.ndarray)
            if is_host(leaf)
            else ocp.ArrayRestoreArgs(sharding=sharding(leaf))
            for path, leaf in leaves.items()
            if leaf.size
        }
        args = ocp.args.PyTreeRestore(dict.fromkeys(loading, 0), restore_args=loading)
        arrays = self._engine.restore(self._path(step), args=ocp.args.Composite(**{_ITEM: args}))[_ITEM]
        empty = {
            path: leaf if is_host(leaf) else jnp.zeros(leaf.shape, leaf.dtype, device=sharding(leaf))
            for path, leaf in leaves.items()
            if not leaf.size
        }
        restored = [as_leaf(arrays[path], saved[path][2]) if path in arrays else empty[path] for path in leaves]
        return jax.tree.unflatten(jax.tree.structure(like), restored)

    @functools.cached_property
    def _engine(self) -> Any:
        """What :class:`orbax.checkpoint.CheckpointManager` saves by, without its list of steps: that removes old steps
        before the new one can be sealed, and does not expect damaged ones."""
        ocp = _orbax()
        # Orbax can make folders in the background, too; but when it cannot make them, its other threads wait for them.
        options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        return ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options)


def _as_json(meta: Mapping[str, Any], score: float | None, types: Mapping[str, Any]) -> str:
    score = float(score) if score is not None and math.isfinite(score) else None
    try:
        return json.dumps({"meta": meta, "score": score, "leaves": types})
    except (TypeError, ValueError) as error:
        raise InputError(f"save: meta must be what JSON can hold: {error}") from None


def _refusal(folder: Path, step: int, error: BaseException) -> BaseException:
    """One line about what the system refuses, which TensorStore reports as text; anything else is an error of ours."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    reason = error.strerror if isinstance(error, OSError) else os.strerror(int(number[1])) if number else None
    if reason is None:
        return error
    return InputError(f"cannot save step {step} in {str(folder)!r}: {reason}; the steps before it are as they were")


@functools.cache
def _orbax() -> Any:
    """The library, loaded at the first checkpoint, as that takes a second. Its log stays off the user's screen."""
    import orbax.checkpoint
    from absl import logging as absl_logging

    package = str(Path(orbax.checkpoint.__file__).parent)
    absl_logging.get_absl_logger().addFilter(lambda record: not record.pathname.startswith(package))
    return orbax.checkpoint
