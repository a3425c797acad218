"""What a person sees of a run: a progress bar on a terminal, plain lines without one."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "progress", "results", "terminal_width"]


class Progress(Protocol):
    def advance(self, step: int) -> None:
        """The run has come to ``step``."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """The run has measured something."""


class _Lines:
    def advance(self, step: int) -> None:
        del step

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        print(_line(step, metrics), flush=True)


class _Nothing(_Lines):
    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        del step, metrics


@contextmanager
def progress(steps: int, start: int = 0, quiet: bool = False) -> Iterator[Progress]:
    """Shows how a run of so many steps goes that begins after ``start`` of them, until the block ends."""
    if quiet or not sys.stdout.isatty():
        yield _Nothing() if quiet else _Lines()
        return

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    left = (TextColumn("left"), TimeRemainingColumn())
    columns = TextColumn("step"), MofNCompleteColumn(), BarColumn(None), TimeElapsedColumn(), *left
    # A narrow terminal has room for the time that is left, and for no other.
    with Bars(*(columns if (terminal_width() or 0) >= 60 else (*columns[:3], left[1])), expand=True) as bars:
        task = bars.add_task("train", total=steps, completed=start)

        class Bar:
            def advance(self, step: int) -> None:
                bars.update(task, completed=step)

            def report(self, step: int, metrics: Mapping[str, float]) -> None:
                bars.console.print(_line(step, metrics, bars.console.width), highlight=False, markup=False)

        yield Bar()


def terminal_width() -> int | None:
    """How many characters a line of the terminal has; None where output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def results(metrics: Mapping[str, float]) -> str:
    """A table of the metrics of a run.

    >>> print(results({"test/loss": 0.25, "test/accuracy": 0.96875}))
      test/loss      0.25
      test/accuracy  0.9688
    """
    width = max(map(len, metrics), default=0)
    return "\n".join(f"  {name:<{width}}  {value:.4g}" for name, value in metrics.items())


def _line(step: int, metrics: Mapping[str, float], width: int | None = None) -> str:
    """One line, or on a narrow terminal several, none of which parts a name from its value."""
    lines = [f"step {step:>6}"]
    for name, value in metrics.items():
        part = f"  {name} {value:.4g}"
        if width is None or len(lines[-1]) + len(part) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(lines)
