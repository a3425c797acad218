"""The configuration of a training run: its schema, how a TOML file and the command line fill it, and how it is written.

Every key has its place: in a dataclass below or, in the tables of data, model and task, in the signature of the
function that their ``name`` stands for. Whatever has none is an error that names the key and the nearest one.
"""

import dataclasses
import importlib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

from dlfn import augmentation, nn
from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.data import DATA
from dlfn.train.plan import Plan, setting
from dlfn.train.settings import Text, arguments, checked, parameters, value_of
from dlfn.train.tasks import TASKS

__all__ = [
    "DEFAULT", "MODELS", "Choice", "Config", "Mesh", "Precision", "Run", "Schedule", "Train", "function_of", "keys",
    "load", "packaged", "to_toml",
]  # fmt: skip

DEFAULT = "digits_mlp"
# A wheel has the configurations beside this file; in a checkout they are at its top.
_PACKAGED = Path(__file__).resolve().with_name("configs")
_CONFIGS = _PACKAGED if _PACKAGED.is_dir() else _PACKAGED.parents[2] / "configs"

MODELS: dict[str, Callable[..., Any]] = {
    name: getattr(nn.models, name) for name in ("mlp", "cnn", "resnet", "lstm", "gpt", "vit", "vae")
}


class Choice(NamedTuple):
    """One of several functions, by its name, and its keyword arguments."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Run:
    folder: str = setting("", "where the run writes; by default runs/<name of the file>")
    tensorboard: bool = setting(False, "write the metrics to its subfolder tensorboard, for TensorBoard, too")


@dataclass(frozen=True)
class Train(Plan):
    __doc__ = Plan.__doc__
    clip_norm: float = setting(0.0, "bound of the norm of the gradient of all parameters together; 0: none", at_least=0)


@dataclass(frozen=True)
class Schedule:
    """The learning rate: up to its peak in the ``warmup`` fraction of the run, then down to ``end`` times the peak."""

    name: str = setting("constant", "how it falls after the warm-up", choices=("constant", "linear", "cosine"))
    warmup: float = setting(0.0, "fraction of the run", at_least=0, at_most=1)
    end: float = setting(0.0, "the last rate, as a fraction of the peak", at_least=0)


_FLOATS = ("default", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Precision:
    params: str = setting("default", "dtype of parameters, optimiser and running statistics", choices=_FLOATS)
    compute: str = setting("default", "dtype of forward and backward pass: that of the parameters", choices=_FLOATS)


@dataclass(frozen=True)
class Mesh:
    """How many devices share the work, along each axis. One of them may be -1: as many as there are left."""

    data: int = setting(-1, "parts of a batch", at_least=-1)
    fsdp: int = setting(1, "parts of a batch, and of the parameters", at_least=-1)
    model: int = setting(1, "parts of the larger layers", at_least=-1)


_OPTIMIZER = {"name": "adamw", "learning_rate": 1e-3}
# A table of a function: what it may be called, and what is needed of a function of the user's.
_CHOICES: dict[str, tuple[str, Mapping[str, Callable[..., Any]]]] = {
    "data": ("digits", DATA),
    "model": ("mlp", MODELS),
    "task": ("classification", TASKS),
}


@dataclass(frozen=True)
class Config:
    run: Run = Run()
    gradient: Literal["hand", "backprop", "autodiff"] = setting("hand", "by which rules gradients are computed")
    seed: int = setting(0, "of parameters, batches and whatever else is drawn", at_least=0, at_most=2**32 - 1)
    data: Choice = field(default_factory=lambda: Choice("digits", {}))
    augment: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: Choice = field(default_factory=lambda: Choice("mlp", {}))
    task: Choice = field(default_factory=lambda: Choice("classification", {}))
    train: Train = Train()
    # The other keys are those of the optimiser in optax, which dlfn.train.optimizer checks.
    optimizer: dict[str, Any] = field(default_factory=_OPTIMIZER.copy)
    schedule: Schedule = Schedule()
    precision: Precision = Precision()
    mesh: Mesh = Mesh()


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a TOML file, with ``key=value`` overrides, ``train.steps=50``, on top. A name without a
    suffix, ``digits_mlp``, is one that comes with dlfn, unless there is such a file.

    ``run.folder`` is ``runs/<name of the file>`` unless given. Keys of functions have their defaults written out.

    Raises:
        InputError: on a file that cannot be read, an unknown key, and a value of the wrong type or out of range.
    """
    path = Path(path)
    if not path.is_file() and (own := packaged().get(str(path))):
        path = own
    table = _read(path)
    for override in overrides:
        _set(table, override)
    run = table.setdefault("run", {})
    if isinstance(run, dict):
        run.setdefault("folder", f"runs/{path.stem}")
    return _build(table)


def packaged() -> dict[str, Path]:
    """The configurations that come with dlfn, by name."""
    return {path.stem: path for path in sorted(_CONFIGS.glob("*.toml"))}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        # By their stems, since all the names end alike; in configs/ too, where a checkout has its own.
        others = {name: name for name in packaged()}
        others |= {p.stem: str(p) for folder in (Path("configs"), path.parent) for p in sorted(folder.glob("*.toml"))}
        near = get_close_matches(path.stem, others, 1)
        hint = f"did you mean {others[near[0]]!r}?" if near else "nor is there one of a similar name"
        raise InputError(f"no configuration at {str(path)!r}; {hint}") from None
    except OSError as error:
        raise InputError(f"cannot read the configuration {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} is not TOML: {error}") from None


def _set(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"expected key=value, such as train.steps=50, got {override!r}")
    *parents, name = key.split(".")
    for depth, parent in enumerate(parents, 1):
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError(f"cannot set {key!r}: {'.'.join(parents[:depth])!r} is no table")
    table[name] = Text(text)


def _build(table: Mapping[str, Any]) -> Config:
    table = dict(table)
    for key in table:
        if key not in Config.__dataclass_fields__:  # 'steps' finds 'train.steps'
            raise InputError(f"unknown key {key!r}; {suggestion(key, [name for name, *_ in keys()])}")
    values = {}
    for section, (default, known) in _CHOICES.items():
        values[section] = _choice(section, value_of(table.pop(section, {}), dict, section), default, known)
    values["augment"] = _augmentation(value_of(table.pop("augment", {}), dict[str, dict], "augment"))
    given = value_of(table.pop("optimizer", {}), dict, "optimizer")
    values["optimizer"] = _OPTIMIZER | {k: v.parsed(Any) if isinstance(v, Text) else v for k, v in given.items()}
    return dataclasses.replace(checked(Config, table, ""), **values)


def _choice(section: str, table: dict[str, Any], default: str, known: Mapping[str, Callable[..., Any]]) -> Choice:
    name = str(table.get("name", default))
    function = function_of(section, name, known)
    given = {key: value for key, value in table.items() if key != "name"}
    if section == "task" and ":" in name:
        return Choice(name, arguments(function, name, given, f"{section}."))
    return Choice(name, _defaults(section, function) | arguments(function, name, given, f"{section}."))


def function_of(section: str, name: str, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function of a name, or of ``"package.module:function"``, which is imported from the folder at hand too."""
    if name in known:
        return known[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(f"{section}.name = {name!r}: {suggestion(name, known)}; or 'package.module:function'")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{section}.name = {name!r}: there is no module {error.name!r} on the path; "
            "go to the folder that has it, or name that folder in PYTHONPATH"
        ) from None
    except AttributeError:
        raise InputError(f"{section}.name = {name!r}: {module} has no {attribute!r}") from None
    if not callable(function):
        raise InputError(f"{section}.name = {name!r}: expected a function, got {type(function).__name__}")
    return function


# What data say of themselves, for the models' parameters of these names; and the configuration's own seed.
_KNOWN_OTHERWISE = {"data": ("seed",), "model": ("outputs", "vocabulary", "context"), "task": ()}


def _defaults(section: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Of those parameters that TOML can hold, so that a written configuration says all."""
    simple, other = (bool, int, float, str, tuple), _KNOWN_OTHERWISE[section]
    named = parameters(function).values()
    return {p.name: p.default for p in named if isinstance(p.default, simple) and p.name not in other}


def _augmentation(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    known = {name: getattr(augmentation, name) for name in augmentation.__all__ if name != "affine"}
    for name in table:
        if name not in known:
            raise InputError(f"unknown key 'augment.{name}'; {suggestion(name, known, 'augment.')}")
    return {name: arguments(known[name], name, given, f"augment.{name}.") for name, given in table.items()}


def keys() -> Iterator[tuple[str, Any, Any, str]]:
    """Every key of the dataclasses, with its type, default and meaning."""
    yield from _keys(Config, "")
    for section, (default, known) in _CHOICES.items():
        yield f"{section}.name", str, default, f"{', '.join(known)}, or 'package.module:function'"


def _keys(schema: Any, path: str) -> Iterator[tuple[str, Any, Any, str]]:
    hints = get_type_hints(schema)
    for spec in dataclasses.fields(schema):
        hint = hints[spec.name]
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{path}{spec.name}.")
        elif "meaning" in spec.metadata:
            yield path + spec.name, hint, spec.default, spec.metadata["meaning"]


def to_toml(config: Config) -> str:
    """The configuration as TOML that :func:`load` reads back to an equal one."""
    table = {}
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if isinstance(value, Choice):
            value = {"name": value.name, **value.settings}
        table[spec.name] = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # pyright: ignore[reportArgumentType]
    scalars = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in scalars.items()]
    for name, section in table.items():
        if isinstance(section, dict) and section:
            lines += [
                "",
                f"[{name}]",
                *(f"{key} = {_toml(value)}" for key, value in section.items() if value is not None),
            ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings and booleans are TOML's too, once non-ASCII characters are not escaped in pairs.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else repr(value)
