"""Optimisers and schedules of optax, by name from the configuration."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import jax
import optax
import optax.contrib

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.config import Schedule

__all__ = ["make_optimizer", "make_schedule"]

# Those of optax that need nothing but gradients and parameters.
_NAMES = (
    "adabelief", "adadelta", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "lamb", "lars", "lion",
    "muon", "nadam", "nadamw", "novograd", "radam", "rmsprop", "sgd", "yogi",
)  # fmt: skip

# What these must be below, and at least 0: optax takes any number, and the loss is not finite or does not fall.
_BELOW = {
    **dict.fromkeys(("b1", "b2", "b3", "momentum", "decay", "rho"), 1),
    **dict.fromkeys(("eps", "eps_root", "weight_decay"), math.inf),
}

# What weight decay leaves alone unless optimizer.no_decay says otherwise: biases, and the scales of norms.
NO_DECAY = (r"(^|/)(b|b_h|bias|scale|alpha)$",)


def make_optimizer(settings: Mapping[str, Any], schedule: Schedule, steps: int, clip_norm: float = 0.0) -> Any:
    """The optimiser that ``optimizer.name`` names, with the other keys as its arguments, after clipping the norm.

    Beside optax's arguments there are ``no_decay``, regular expressions of the paths of parameters that weight decay
    leaves alone; and ``groups``, a table of a regular expression and the settings of the optimiser of the parameters
    whose paths it is found in, of which the first counts. Muon is for matrices, and leaves all else to its own AdamW.

    Raises:
        InputError: on an unknown name, a key that the optimiser does not take, and a value that is no number.
    """
    settings = dict(settings)
    groups = settings.pop("groups", {})
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise InputError(f"optimizer.groups = {groups!r}: expected a table of tables, by regular expressions of paths")
    optimizers: dict[Any, Any] = {"": _one(settings, schedule, steps, "optimizer.")}
    for pattern, own in groups.items():
        _compiled(pattern, "optimizer.groups")
        own = {"name": settings["name"], "learning_rate": settings["learning_rate"], **own}
        optimizers[pattern] = _one(own, schedule, steps, f"optimizer.groups.{json_key(pattern)}.")
    optimizer = optimizers[""]
    if groups:
        optimizer = optax.partition(optimizers, lambda params: _labels(params, list(groups)))
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer) if clip_norm else optimizer


def json_key(pattern: str) -> str:
    return f'"{pattern}"'


def _one(settings: dict[str, Any], schedule: Schedule, steps: int, path: str) -> Any:
    settings = dict(settings)
    name, no_decay = settings.pop("name"), settings.pop("no_decay", NO_DECAY)
    if name not in _NAMES:
        raise InputError(f"{path}name = {name!r}: {suggestion(name, _NAMES)}")
    function = _function(name)
    kinds = _parameters(function)
    for key, value in settings.items():
        if key not in kinds:
            hint = suggestion(key, kinds, path)
            if any(key in _parameters(_function(other)) for other in _NAMES):  # of the optimiser in the file
                rate = settings["learning_rate"]
                hint += f"; optimizer='{{name = \"{name}\", learning_rate = {rate!r}}}' drops the keys of the file"
            raise InputError(f"unknown key '{path}{key}' for {name}; {hint}")
        if (kinds[key] is bool) != isinstance(value, bool) or not isinstance(value, (bool, int, float)):
            expected = "true or false" if kinds[key] is bool else "a number"
            raise InputError(f"{path}{key} = {value!r}: expected {expected}, got {type(value).__name__}")
        if key in _BELOW and not 0 <= value < _BELOW[key]:
            raise InputError(f"{path}{key} = {value!r}: must be at least 0 and below {_BELOW[key]}")
    rate = settings["learning_rate"]
    if not 0 < rate < math.inf:
        raise InputError(f"{path}learning_rate = {rate!r}: must be above 0 and finite")
    settings["learning_rate"] = make_schedule(schedule, rate, steps)
    masks = [key for key in inspect.signature(function).parameters if key in ("mask", "weight_decay_mask")]
    if masks and "weight_decay" in kinds:
        settings[masks[0]] = _decayed(no_decay, f"{path}no_decay")
    return function(**settings)


def _decayed(patterns: Any, key: str) -> Any:
    """A mask of the parameters that weight decay is for."""
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(f"{key} = {patterns!r}: expected a list of regular expressions of paths")
    compiled: Sequence[re.Pattern[str]] = [_compiled(pattern, key) for pattern in patterns]
    return lambda params: _by_path(lambda path: not any(pattern.search(path) for pattern in compiled), params)


def _labels(params: Any, patterns: Sequence[str]) -> Any:
    """For each parameter the first pattern that is found in its path, or "" for none."""
    labels = _by_path(lambda path: next((p for p in patterns if re.search(p, path)), ""), params)
    paths: list[str] = jax.tree.leaves(_by_path(lambda path: path, params))
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            hint = suggestion(pattern, paths)
            raise InputError(f"optimizer.groups: {pattern!r} is found in no path of a parameter; {hint}")
    return labels


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"{key}: {pattern!r} is no regular expression: {error}") from None


def _by_path(function: Any, params: Any) -> Any:
    paths = lambda path, _: function(jax.tree_util.keystr(path, simple=True, separator="/"))  # noqa: E731
    return jax.tree_util.tree_map_with_path(paths, params)


def _function(name: str) -> Any:
    return optax.contrib.muon if name == "muon" else getattr(optax, name)


def _parameters(function: Any) -> Mapping[str, type]:
    """The parameters that a number or a boolean in a file can set."""
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: bool if p.annotation is bool else float
        for p in parameters
        if p.annotation is bool or float in get_args(p.annotation) or isinstance(p.default, float)
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
