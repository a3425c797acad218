"""What a person sees of a run: a progress bar on a terminal, plain lines without one."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "progress"]


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

    columns = TextColumn("step"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Bars(*columns) as bars:
        task = bars.add_task("train", total=steps, completed=start)

        class Bar:
            def advance(self, step: int) -> None:
                bars.update(task, completed=step)

            def report(self, step: int, metrics: Mapping[str, float]) -> None:
                bars.console.print(_line(step, metrics), highlight=False)

        yield Bar()


def _line(step: int, metrics: Mapping[str, float]) -> str:
    return "  ".join([f"step {step:>6}", *(f"{name} {value:.4g}" for name, value in metrics.items())])
