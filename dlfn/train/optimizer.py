"""Optimisers and schedules of optax, by name from the configuration."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, get_args

import optax

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.config import Config, Schedule

__all__ = ["make_optimizer", "make_schedule"]

# Those of optax that need nothing but gradients and parameters.
_NAMES = (
    "adabelief", "adadelta", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "lamb", "lars", "lion",
    "nadam", "nadamw", "novograd", "radam", "rmsprop", "sgd", "yogi",
)  # fmt: skip


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimiser that ``optimizer.name`` names, with the other keys of ``optimizer`` as its arguments, after the
    clipping of ``train.clip_norm``.

    Raises:
        InputError: on an unknown name, a key that the optimiser does not take, and a value that is no number.
    """
    name, settings = config.optimizer["name"], {k: v for k, v in config.optimizer.items() if k != "name"}
    if name not in _NAMES:
        raise InputError(f"optimizer.name = {name!r}: {suggestion(name, _NAMES)}")
    kinds = _parameters(getattr(optax, name))
    for key, value in settings.items():
        if key not in kinds:
            hint = suggestion(key, kinds, "optimizer.")
            if any(key in _parameters(getattr(optax, other)) for other in _NAMES):  # of the optimiser in the file
                rate = settings["learning_rate"]
                hint += f"; optimizer='{{name = \"{name}\", learning_rate = {rate!r}}}' drops the keys of the file"
            raise InputError(f"unknown key 'optimizer.{key}' for {name}; {hint}")
        if (kinds[key] is bool) != isinstance(value, bool) or not isinstance(value, (bool, int, float)):
            expected = "true or false" if kinds[key] is bool else "a number"
            raise InputError(f"optimizer.{key} = {value!r}: expected {expected}, got {type(value).__name__}")
    rate = settings["learning_rate"]
    if not 0 < rate < math.inf:
        raise InputError(f"optimizer.learning_rate = {rate!r}: must be above 0 and finite")
    settings["learning_rate"] = make_schedule(config.schedule, settings["learning_rate"], config.train.steps)
    optimizer = getattr(optax, name)(**settings)
    clip = config.train.clip_norm
    return optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip else optimizer


def _parameters(function: Any) -> Mapping[str, type]:
    """The parameters that a number or a boolean in a file can set."""
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: bool if p.annotation is bool else float
        for p in parameters
        if p.annotation is bool or float in get_args(p.annotation)
    }


def make_schedule(schedule: Schedule, peak: float, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step."""
    warmup = round(schedule.warmup * steps)
    # optax wants at least one step of decay, also when the warm-up takes the whole run.
    rest = max(steps - warmup, 1)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, peak * schedule.end, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, schedule.end),
    }[schedule.name]()
    # Counted from 1, so that no step is lost to a learning rate of 0.
    before = optax.linear_schedule(peak / (warmup + 1), peak, warmup) if warmup else after
    return optax.join_schedules([before, after], [warmup])
