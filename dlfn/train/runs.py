"""What is left of a run: its model, and how good that is."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.explain import Explanation
from dlfn.train.checkpoints import Checkpoints
from dlfn.train.config import Config, Mesh
from dlfn.train.config import load as load_config
from dlfn.train.data import text_codec
from dlfn.train.engine import make_loop
from dlfn.train.explaining import EXAMPLES, explained
from dlfn.train.loop import Loop
from dlfn.train.parts import make_model, make_parts
from dlfn.weights import load_metadata, load_params

__all__ = ["Loaded", "evaluate", "explain_config", "explain_run", "load"]


class Loaded(NamedTuple):
    """A trained model, and what is known of its run.

    Attributes:
        inputs: the shapes and dtypes of a batch that the model takes.
        info: what is known of the data; see :class:`dlfn.train.data.Dataset`.
    """

    model: Any
    params: Any
    state: Any
    config: Config
    folder: Path
    inputs: Any
    info: dict[str, Any]


def load(folder: str | Path, *, best: bool = False) -> Loaded:
    """The model that a run of ``dlfn train`` has trained, or is training: of its last checkpoint, as long as the run
    has not finished.

    A finished run needs no data for it. A configuration may name functions of any module, which are called: load the
    runs of those alone whose programs you would run.

    Args:
        folder: of the run.
        best: whether to take the checkpoint with the lowest loss on the test data (``train.keep_best``) instead, which
            needs the data.

    Raises:
        InputError: where the folder holds no run, one of :func:`dlfn.train.fit`, which has no configuration of its
            model, or one without any parameters yet.

    >>> from dlfn import train
    >>> train.load("runs/nothing")
    Traceback (most recent call last):
    dlfn.core.errors.InputError: 'runs/nothing' holds no run: there is no config.toml in it
    """
    folder = Path(folder)
    if not (folder / "config.toml").is_file():
        raise InputError(f"{str(folder)!r} holds no run: there is no config.toml in it")
    if "\n[model]\n" not in (folder / "config.toml").read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            f"{str(folder)!r} holds a run of dlfn.train.fit, whose model is in no configuration; "
            "dlfn.weights.load_params reads its parameters"
        )
    config = load_config(folder / "config.toml")
    path = folder / "params.safetensors"
    if best or not path.is_file():
        return _from_checkpoint(folder, config, best)
    known = json.loads(load_metadata(path)["dlfn"])
    info, inputs = known["info"], jax.tree.map(_shape, known["inputs"], is_leaf=lambda x: isinstance(x, list))
    if "tokens" in info:
        codec = text_codec(info["tokens"], info.get("characters", ""))
        info |= {"encode": codec.encode, "decode": codec.decode}
    model = make_model(config, info)
    params, state = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return Loaded(model, *load_params(path, params, state), config, folder, inputs, info)


def _shape(described: list[Any]) -> jax.ShapeDtypeStruct:
    shape, dtype = described
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))


def _from_checkpoint(folder: Path, config: Config, best: bool) -> Loaded:
    loop = _on_one_device(config)
    with loop.placement.active(), contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        found = checkpoints.restore({"carry": loop.begin(), "key": loop.key}, best=best)
    if found is None:
        raise InputError(f"the run in {str(folder)!r} has no checkpoint yet")
    carry = found.tree["carry"]
    return Loaded(
        loop.learner.model, loop.params(carry), carry.state, config, folder, loop.inputs, dict(loop.data.info)
    )


def _on_one_device(config: Config, **settings: Any) -> Loop:
    """The loop of a run, on whatever mesh it was trained, as that many devices need not be here."""
    config = replace(config, mesh=Mesh(data=1), train=replace(config.train, **settings))
    return make_loop(**make_parts(config), quiet=True)


def evaluate(folder: str | Path, *, best: bool = False) -> dict[str, float]:
    """The loss and the metrics of a run's model on the test data, all of them.

    Args:
        folder: of the run.
        best: see :func:`load`.

    Raises:
        InputError: as :func:`load`, and where the run's data have no part for tests.
    """
    loaded = load(folder, best=best)
    loop = _on_one_device(loaded.config, eval_batches=0)
    if loop.evaluation is None:
        raise InputError(f"the data of the run in {str(folder)!r} have no test part")
    with loop.placement.active():
        return loop.evaluation(loaded.params, loaded.state)


def explain_config(config: Config, title: str, examples: int = EXAMPLES) -> Explanation:
    """Every step of the loss that a configuration describes, with its initial parameters, on examples of its data."""
    loop = _on_one_device(config)
    with loop.placement.active():
        carry = loop.begin()
        return explained(loop.learner, carry.params, carry.state, loop.first_batch(), loop.key, title, examples)


def explain_run(folder: str | Path, examples: int = EXAMPLES) -> Explanation:
    """The same of a run, with its parameters.

    Raises:
        InputError: as :func:`load`.
    """
    loaded = load(folder)
    loop = _on_one_device(loaded.config)
    with loop.placement.active():
        name, batch = Path(folder).resolve().name, loop.first_batch()
        return explained(loop.learner, loaded.params, loaded.state, batch, loop.key, name, examples)
