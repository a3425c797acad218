"""A training run, of any model on any data: :func:`fit`."""

import contextlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import optax

from dlfn import nn
from dlfn.core import InputError
from dlfn.train.checkpoints import Checkpoints
from dlfn.train.data import Dataset, Source
from dlfn.train.environment import environment
from dlfn.train.loop import Loop, Standing
from dlfn.train.placement import Placement
from dlfn.train.plan import Plan, make_plan
from dlfn.train.progress import terminal_width
from dlfn.train.run import RunFolder
from dlfn.train.step import GRADIENTS, Carry, Learner
from dlfn.train.tasks import as_task

__all__ = ["Result", "fit", "make_loop"]


@dataclass(frozen=True)
class Result:
    """A trained model.

    Attributes:
        model: that was trained.
        params: the trained parameters; with ``ema`` their moving average.
        state: the model's state, such as running statistics.
        metrics: on the test data, or of the last training steps where there are none.
        step: how many steps were taken.
        stopped: why before the last one: ``"patience"``, or the name of a signal; None for a whole run.
        carry: what another step would begin with.
    """

    model: Any
    params: Any
    state: Any
    metrics: dict[str, float]
    step: int
    stopped: str | None = None
    carry: Carry | None = None


def fit(
    model: Any,
    data: Dataset | Source,
    *,
    loss: Any,
    optimizer: optax.GradientTransformation,
    steps: int,
    params: Any = None,
    state: Any = (),
    metrics: Mapping[str, Callable[[Any, Any], jax.Array]] | None = None,
    seed: int = 0,
    gradient: str = "hand",
    augment: Callable[[jax.Array, Any], Any] | None = None,
    params_dtype: Any = None,
    compute_dtype: Any = None,
    placement: Placement | None = None,
    learning_rate: Callable[[int], Any] | None = None,
    folder: str | Path | RunFolder | None = None,
    tensorboard: bool = False,
    quiet: bool = False,
    profile: str | Path | None = None,
    **settings: Any,
) -> Result:
    """Trains a model: the loop of steps, with evaluations, metrics and checkpoints.

    Steps run on the device in dispatches of several, with donated buffers. A step depends on ``seed``, its number and
    what it begins with alone, so that a run that is resumed in its ``folder`` ends with the same bits as one that was
    not interrupted.

    Args:
        model: a :class:`dlfn.nn.Layer`; or a function ``f(params, x)``, which may have parameters ``key`` and ``train``
            besides, with ``params`` to begin with.
        data: a :class:`~dlfn.train.data.Dataset`, or a source of training data alone.
        loss: a function of outputs and targets, which returns a loss for each example or their mean; a
            :class:`~dlfn.train.tasks.Task`; or its name, such as ``"classification"``.
        optimizer: of optax.
        steps: how many.
        params: to begin with, and ``state``; by default the layer's ``init`` makes them, by ``seed``.
        state: see ``params``.
        metrics: beside a loss function, other functions of outputs and targets, by name.
        seed: of initial parameters, batches and whatever is drawn in a step.
        gradient: ``"hand"`` for the rules as they are, ``"backprop"`` or ``"autodiff"`` to compute it otherwise.
        augment: ``augment(key, batch)``, on the device.
        params_dtype: in which parameters are kept; None as ``init`` makes them.
        compute_dtype: in which forward and backward pass are computed; None as the parameters.
        placement: over which devices; by default on all that there are, each with a part of the batch.
        learning_rate: of a step, to be recorded.
        folder: where the run writes ``metrics.jsonl``, checkpoints and the trained parameters. If it holds this run
            already, unfinished, it goes on from the newest checkpoint that is whole. None to write nothing.
        tensorboard: whether the folder gets a subfolder ``tensorboard`` with the metrics as events.
        quiet: whether to print nothing.
        profile: a folder for a recording of the second dispatch, which TensorBoard and XProf show.
        **settings: the other settings of :class:`~dlfn.train.plan.Plan`, such as ``batch_size`` and ``eval_every``.

    Raises:
        InputError: on bad input, before anything is written where it can be.
        TrainingError: when the loss or a gradient is not finite, with the report of :func:`dlfn.why` on that step; the
            last checkpoint is from before it.

    >>> import jax, jax.numpy as jnp, numpy as np, optax
    >>> from dlfn import nn, train
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> result = train.fit(
    ...     nn.mlp((16,), 1), train.data.arrays(x, x[:, 0] ** 2), loss="regression",
    ...     optimizer=optax.adam(1e-2), steps=200, batch_size=32, quiet=True,
    ... )
    >>> result.step, result.metrics["train/loss"] < 0.01
    (200, True)
    """
    loop = make_loop(
        model, data, loss=loss, optimizer=optimizer, steps=steps, params=params, state=state, metrics=metrics,
        seed=seed, gradient=gradient, augment=augment, params_dtype=params_dtype, compute_dtype=compute_dtype,
        placement=placement, learning_rate=learning_rate, quiet=quiet, **settings,
    )  # fmt: skip
    if isinstance(folder, (str, Path)):
        folder = RunFolder(folder, _described(loop.plan, seed, gradient), tensorboard=tensorboard)
    with loop.placement.active():
        carry = loop.begin()
        if isinstance(model, nn.Layer):
            loop.say(nn.summary(model, loop.inputs, width=terminal_width()))
        loop.profile = profile
        carry, ended = _in_folder(loop, carry, folder) if folder else loop.run(carry)
    return Result(loop.learner.model, loop.params(carry), carry.state, ended.metrics, ended.step, ended.stopped, carry)


def make_loop(
    model: Any,
    data: Dataset | Source,
    *,
    loss: Any,
    optimizer: optax.GradientTransformation,
    steps: int,
    params: Any = None,
    state: Any = (),
    metrics: Any = None,
    seed: int = 0,
    gradient: str = "hand",
    augment: Any = None,
    params_dtype: Any = None,
    compute_dtype: Any = None,
    placement: Placement | None = None,
    learning_rate: Any = None,
    quiet: bool = False,
    **settings: Any,
) -> Loop:
    """What :func:`fit` runs, from its arguments."""
    plan = make_plan(steps=steps, **settings)
    data = _as_dataset(data)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise InputError(f"optimizer is {optimizer!r}, and must be one of optax, such as optax.adam(1e-3)")
    if gradient not in GRADIENTS:
        raise InputError(f"gradient is {gradient!r}, and must be one of {', '.join(GRADIENTS)}")
    model, task = _as_model(model, params), as_task(loss, metrics)
    learner = Learner(model, task, optimizer, gradient, compute_dtype, augment, plan.ema, plan.accumulate)
    given = None if params is None else (params, state)
    quiet = quiet or bool(jax.process_index())
    return Loop(learner, data, plan, placement or Placement(), seed, given, params_dtype, learning_rate, quiet)


def _in_folder(loop: Loop, carry: Carry, folder: RunFolder) -> tuple[Carry, Standing]:
    """The run in its folder: from its newest checkpoint, if there is one, to its end."""
    with contextlib.closing(folder):
        folder.start()
        if folder.moved is not None:
            loop.say(f"the earlier run was moved to {folder.moved}")
        keep = {"keep_last": loop.plan.keep_last, "keep_best": loop.plan.keep_best}
        with contextlib.closing(Checkpoints(folder.checkpoints, **keep)) as checkpoints:
            found, standing = checkpoints.restore({"carry": carry, "key": loop.key}), Standing()
            if found is None:
                if folder.finished is not None:
                    raise InputError(
                        f"the run in {str(folder.path)!r} is finished, and its checkpoints are gone; load its "
                        "parameters with dlfn.train.load, or choose another folder"
                    )
                folder.rewind(0)
            else:
                for step, reason in found.skipped:
                    loop.say(f"skipped the checkpoint of step {step}: {reason}")
                carry, loop.key, standing = found.tree["carry"], found.tree["key"], Standing(**found.meta)
                if folder.finished is not None:
                    loop.say(f"the run in {folder.path} is finished, after {found.step} steps")
                    return carry, standing
                loop.data.train.seek(standing.position)
                folder.rewind(found.step)
                if standing.stopped != "patience":
                    standing.stopped = None
                loop.say(f"resumed at step {found.step}, from {folder.checkpoints / str(found.step)}")
            folder.log_environment(standing.step, environment())
            carry, standing = loop.run(carry, standing, folder, checkpoints)
            if standing.stopped in (None, "patience"):
                checkpoints.wait()
                params, state = loop.placement.fetch((loop.params(carry), carry.state))
                folder.finish(params, standing.metrics, state=state, metadata={"dlfn": loop.known()})
            loop.say(f"the run is in {folder.path}")
            return carry, standing


@dataclass(frozen=True)
class _Function:
    """A function of params and inputs, as a model."""

    function: Callable[..., Any]

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        taken = inspect.signature(self.function).parameters
        options = {name: value for name, value in {"key": key, "train": train}.items() if name in taken}
        return self.function(params, x, **options), state


def _as_dataset(data: Any) -> Dataset:
    """A dataset as it is, and a source as one without a test part."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, Source):
        raise InputError(
            f"data is of type {type(data).__name__}, and must be a source or a dataset of dlfn.train.data; "
            "data.arrays(x, y) makes one of arrays, data.stream(batches) of a loader or any other iterable of batches"
        )
    return Dataset(data)


def _as_model(model: Any, params: Any) -> Any:
    if hasattr(model, "apply") and (hasattr(model, "init") or params is not None):
        return model
    if not callable(model):
        raise InputError(f"model is {model!r}, and must be a layer, or a function of params and inputs")
    if params is None:
        raise InputError("model is a function, and has no init; give params to begin with")
    return _Function(model)


def _described(plan: Plan, seed: int, gradient: str) -> str:
    """What a run in a folder is asked for, in TOML, as far as it can be written."""
    values = {"seed": seed, "gradient": gradient, **asdict(plan)}
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
