"""How long a run is, and what happens at which of its steps."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.settings import checked

__all__ = ["Plan", "make_plan", "setting"]


def setting(default: Any, meaning: str, **limits: Any) -> Any:
    """A field of a table of the configuration, with its meaning, and the limits of its values: ``choices``, or for each
    number ``at_least``, ``above``, ``at_most`` and ``below``."""
    return field(default=default, metadata={"meaning": meaning, **limits})


@dataclass(frozen=True)
class Plan:
    """The settings of :func:`dlfn.train.fit` that are numbers of steps, or about them; ``[train]`` in a configuration.

    >>> Plan(steps=10, steps_per_dispatch=4, eval_every=5, save_every=0).chunks(0)
    [(0, 4), (4, 5), (5, 9), (9, 10)]
    """

    steps: int = setting(1000, "how many steps", at_least=1)
    batch_size: int = setting(64, "examples of a step", at_least=1)
    accumulate: int = setting(1, "parts of a batch whose gradients are computed one after the other", at_least=1)
    steps_per_dispatch: int = setting(50, "steps that the device does by itself, in a loop", at_least=1)
    log_every: int = setting(
        100, "steps between records of the training metrics, which are means over them", at_least=1
    )
    eval_every: int = setting(500, "steps between evaluations; 0 for one at the end", at_least=0)
    eval_batch: int = setting(512, "examples of a batch of an evaluation", at_least=1)
    eval_batches: int = setting(0, "batches of an evaluation, from the beginning; 0 for all", at_least=0)
    save_every: int = setting(500, "steps between checkpoints; 0 for one at the end", at_least=0)
    keep_last: int = setting(2, "how many of the newest checkpoints are kept", at_least=1)
    keep_best: int = setting(1, "how many of those with the lowest test/loss are kept besides", at_least=0)
    patience: int = setting(0, "evaluations without a lower test/loss after which the run stops; 0: never", at_least=0)
    ema: float = setting(0.0, "decay of the mean of the weights that is evaluated; 0: none", at_least=0, below=1)
    overfit: int = setting(0, "train on so many batches, again and again; 0: on all", at_least=0)
    explain_every: int = setting(
        0, "steps between pages that explain a step, in the run's folder; 0 for none", at_least=0
    )
    compare: bool = setting(False, "compare the three gradients before the first step and after the last")

    def chunks(self, start: int) -> list[tuple[int, int]]:
        """The steps of each dispatch, from the first up to but not including the last. None goes past a step after
        which there is an evaluation, a checkpoint or a page, so that a run that was resumed has the same dispatches."""
        return list(self._chunks(start))

    def _chunks(self, start: int) -> Iterator[tuple[int, int]]:
        while start < self.steps:
            ends = [start + self.steps_per_dispatch, self.steps]
            often = self.eval_every, self.save_every, self.explain_every
            ends += [(start // every + 1) * every for every in often if every]
            yield start, min(ends)
            start = min(ends)

    def is_due(self, every: int, step: int) -> bool:
        """Whether what is done so often, and at the end, is done after a step, counted from 1."""
        return step == self.steps or (bool(every) and step % every == 0)


def make_plan(**settings: Any) -> Plan:
    """A plan of settings given by name, as :func:`dlfn.train.fit` takes them.

    Raises:
        InputError: on an unknown name, and a value of the wrong kind or out of its range.
    """
    names = Plan.__dataclass_fields__
    for name in settings:
        if name not in names:
            raise InputError(f"fit got an unknown setting {name!r}; {suggestion(name, names)}")
    return checked(Plan, settings, "")
