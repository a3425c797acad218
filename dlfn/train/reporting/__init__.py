"""A page about runs: curves, results and differences."""

from collections.abc import Sequence
from pathlib import Path

from dlfn.core import InputError
from dlfn.files import write_text
from dlfn.train.reporting.page import page_about
from dlfn.train.reporting.reading import read_runs

__all__ = ["report"]


def report(runs: str | Path | Sequence[str | Path], file: str | Path | None = None) -> Path:
    """Writes one HTML page about one or several runs, which needs no other file and no network.

    It has the curves of all runs over each other, the final metrics, the norms of the gradients layer by layer, what
    the models make of their test data (a confusion matrix, samples, or reconstructions; with the reason where that
    cannot be computed), where the configurations differ, and what the runs were computed with.

    Args:
        runs: the folder of a run, or several. A run may still be at work.
        file: where to write; by default ``report.html`` in the run's folder, or here for several.

    Returns:
        The file.

    Raises:
        InputError: where a folder holds no run, its files cannot be read, or the page cannot be written.

    >>> from dlfn import train
    >>> train.report("runs/nothing")
    Traceback (most recent call last):
    dlfn.core.errors.InputError: 'runs/nothing' holds no run: there is no config.toml in it
    """
    folders = [Path(runs)] if isinstance(runs, (str, Path)) else [Path(run) for run in runs]
    if not folders:
        raise InputError("runs are empty, and must be one at least")
    if file is None:
        file = folders[0] / "report.html" if len(folders) == 1 else Path("report.html")
    text = page_about(read_runs(folders), Path(file).parent)
    try:
        write_text(Path(file), text)
    except OSError as error:
        raise InputError(f"cannot write {str(file)!r}: {error.strerror}") from None
    return Path(file)
