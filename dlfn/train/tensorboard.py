"""The metrics of a run for TensorBoard, beside those of ``metrics.jsonl``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlfn.core import InputError

__all__ = ["Events", "require_tensorboard"]


def require_tensorboard() -> Any:
    """The class that writes events.

    Raises:
        InputError: where tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "run.tensorboard = true: tensorboardX is not installed; pip install 'dlfn[tensorboard]', or set it to false"
        ) from None
    return SummaryWriter


class Events:
    """A file of events. TensorBoard leaves out what earlier files of the folder have for the steps after ``step``, from
    which the run goes on."""

    def __init__(self, folder: Path, step: int):
        # Files of the same second would have the same name but for the suffix.
        self._writer = require_tensorboard()(str(folder), purge_step=step + 1, filename_suffix=f".{step:012}")

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes those that are finite."""
        for name, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
