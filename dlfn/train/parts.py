"""The parts of a run, made from its configuration: the one place that sees the whole of it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dlfn import augmentation, nn
from dlfn.core import InputError
from dlfn.train.config import MODELS, Choice, Config, function_of, to_toml
from dlfn.train.data import DATA, Dataset, Source
from dlfn.train.engine import Result, fit, make_loop
from dlfn.train.foreign import foreign
from dlfn.train.optimizer import make_optimizer, make_schedule
from dlfn.train.placement import Placement
from dlfn.train.progress import terminal_width
from dlfn.train.run import RunFolder
from dlfn.train.settings import parameters
from dlfn.train.tasks import TASKS, Supervised, Task

__all__ = ["make_data", "make_model", "make_task", "train"]


def train(config: Config, *, fresh: bool = False, quiet: bool = False, profile: bool = False) -> Result:
    """Trains what a configuration describes, in its folder, and prints how it goes. The same configuration again goes
    on where the run was interrupted, or says that it is finished.

    Args:
        config: see :func:`dlfn.train.load_config`.
        fresh: whether to move another run in the folder aside, and begin anew.
        quiet: whether to print nothing.
        profile: whether to record the second dispatch, in the subfolder ``profile``.

    Raises:
        InputError: on bad input, and when another run is at work in the folder, before a file is written.
        TrainingError: as :func:`dlfn.train.fit`.
    """
    folder = RunFolder(config.run.folder, to_toml(config), fresh=fresh, tensorboard=config.run.tensorboard)
    profiled = folder.path / "profile" if profile else None
    return fit(**make_parts(config), folder=folder, quiet=quiet, profile=profiled)


def dry_run(config: Config) -> str:
    """Compiles a run, takes one step of it, and writes nothing: the layers, the memory, and the loss of that step."""
    RunFolder(config.run.folder, to_toml(config), fresh=True)  # whether it could be written
    loop = make_loop(**make_parts(config), quiet=True)
    with loop.placement.active():
        memory, loss, seconds = loop.try_out()
    model = loop.learner.model
    layers = (
        nn.summary(model, loop.inputs, width=terminal_width()) if isinstance(model, nn.Layer) else config.model.name
    )
    return (
        f"{layers}\ncompiled in {seconds:.2f} s; on each device {memory / 1e6:,.1f} MB; "
        f"the loss of the first step is {loss:.4g}"
    )


def make_parts(config: Config) -> dict[str, Any]:
    """The arguments of :func:`dlfn.train.fit`."""
    data = make_data(config)
    settings = dict(vars(config.train))
    clip_norm = settings.pop("clip_norm")
    return {
        "model": make_model(config, data.info),
        "data": data,
        "loss": make_task(config),
        "optimizer": make_optimizer(config.optimizer, config.schedule, config.train.steps, clip_norm),
        "learning_rate": make_schedule(config.schedule, config.optimizer["learning_rate"], config.train.steps),
        "seed": config.seed,
        "gradient": config.gradient,
        "augment": make_augmentation(config.augment),
        "params_dtype": _dtype("precision.params", config.precision.params),
        "compute_dtype": _dtype("precision.compute", config.precision.compute),
        "placement": Placement(**vars(config.mesh)),
        **settings,
    }


def make_data(config: Config) -> Dataset:
    data = _called("data", config.data, DATA, {"seed": config.seed})
    if not isinstance(data, (Dataset, Source)):
        raise InputError(f"data.name = {config.data.name!r}: it returns {data!r:.40}, and must return a Dataset")
    return data if isinstance(data, Dataset) else Dataset(data)


def make_model(config: Config, info: Mapping[str, Any]) -> Any:
    """The model; parameters of its factory that are not set, and are in what is known of the data, are the data's.

    Raises:
        InputError: on bad settings, and where the model knows fewer classes or tokens than there are.
    """
    for key in {"outputs", "vocabulary"} & config.model.settings.keys() & info.keys():
        given, needed = config.model.settings[key], info[key]
        if given < needed:
            raise InputError(f"model.{key} = {given}: the data have {needed}; leave the key out, and it is theirs")
    return _called("model", config.model, MODELS, info)


def make_task(config: Config) -> Task:
    if config.task.name in TASKS:
        return _called("task", config.task, TASKS, {})
    function = function_of("task", config.task.name, TASKS)
    return Supervised(functools.partial(function, **config.task.settings))


def _called(section: str, choice: Choice, known: Mapping[str, Callable[..., Any]], given: Mapping[str, Any]) -> Any:
    function = function_of(section, choice.name, known)
    taken = parameters(function)
    settings = {name: given[name] for name in taken if name in given} | choice.settings
    missing = [name for name, p in taken.items() if p.default is p.empty and name not in settings]
    if missing:
        raise InputError(f"{section}.{missing[0]} is not set, and {choice.name} needs it; add it to [{section}]")
    try:
        with foreign(choice.name):
            return function(**settings)
    except InputError as error:
        raise InputError(f"[{section}] {error}") from error.__cause__


def make_augmentation(settings: Mapping[str, Mapping[str, Any]]) -> Callable[[jax.Array, Any], Any] | None:
    """``augment(key, batch)``: functions of :mod:`dlfn.augmentation`, one after the other, on the images of a batch."""
    if not settings:
        return None
    functions = {name: functools.partial(getattr(augmentation, name), **given) for name, given in settings.items()}

    def augment(key: jax.Array, batch: Any) -> Any:
        images, *rest = batch if isinstance(batch, tuple) else (batch,)
        shape = images.shape
        images = images[..., None] if images.ndim == 3 else images  # (N, H, W)
        for index, (name, function) in enumerate(functions.items()):
            try:
                images = function(jax.random.fold_in(key, index), images)
            except InputError as error:
                raise InputError(f"[augment.{name}] {error}") from None
        images = images.reshape(shape)
        return (images, *rest) if isinstance(batch, tuple) else images

    return augment


def _dtype(key: str, name: str) -> Any:
    if name == "float64" and jnp.dtype(jax.dtypes.canonicalize_dtype(float)) != jnp.float64:
        raise InputError(f"{key} = 'float64': JAX computes in float32 unless JAX_ENABLE_X64=1 is in the environment")
    return None if name == "default" else jnp.dtype(name)
