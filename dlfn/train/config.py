"""The configuration of a training run: its schema, how a TOML file and the command line fill it, and how it is written.

Every key has its place in the dataclasses below. Whatever has none is an error that names the key and the nearest one.
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn import ACTIVATIONS

__all__ = ["DEFAULT", "Config", "Data", "Model", "Run", "Schedule", "Train", "load", "to_toml"]

DEFAULT = "digits_mlp"
# A wheel has the configurations beside this file; in a checkout they are at its top.
_PACKAGED = Path(__file__).resolve().with_name("configs")
_CONFIGS = _PACKAGED if _PACKAGED.is_dir() else _PACKAGED.parents[2] / "configs"


def _key(default: Any, **limits: Any) -> Any:
    """A field with limits on its values: ``choices``, or for each number ``at_least``, ``above`` and ``at_most``."""
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class Run:
    folder: str


@dataclass(frozen=True)
class Data:
    name: str = _key("digits", choices=("digits",))
    test_fraction: float = _key(0.2, at_least=0.01, at_most=0.9)


@dataclass(frozen=True)
class Model:
    widths: tuple[int, ...] = _key((128,), at_least=1)
    activation: str = _key("gelu", choices=tuple(ACTIVATIONS))
    keep_prob: float = _key(1.0, above=0, at_most=1)
    residual: bool = False


@dataclass(frozen=True)
class Train:
    """``clip_norm`` bounds the norm of the gradient of all parameters together; 0 leaves it as it is."""

    steps: int = _key(1000, at_least=1)
    batch_size: int = _key(64, at_least=1)
    steps_per_dispatch: int = _key(50, at_least=1)
    log_every: int = _key(100, at_least=1)
    eval_every: int = _key(500, at_least=1)
    clip_norm: float = _key(0.0, at_least=0)
    compare: bool = True


@dataclass(frozen=True)
class Schedule:
    """The learning rate: up to its peak in the ``warmup`` fraction of the run, then down to ``end`` times the peak."""

    name: str = _key("constant", choices=("constant", "linear", "cosine"))
    warmup: float = _key(0.0, at_least=0, at_most=1)
    end: float = _key(0.0, at_least=0)


_OPTIMIZER = {"name": "adamw", "learning_rate": 1e-3}


@dataclass(frozen=True)
class Config:
    run: Run
    gradient: str = _key("hand", choices=("hand", "backprop", "autodiff"))
    seed: int = _key(0, at_least=0, at_most=2**32 - 1)
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    # The other keys are those of the optimiser in optax, which dlfn.train.optimizer checks.
    optimizer: dict[str, Any] = field(default_factory=_OPTIMIZER.copy)
    schedule: Schedule = Schedule()


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a TOML file, with ``key=value`` overrides, ``train.steps=50``, on top. A name without a
    suffix, ``digits_mlp``, is one that comes with dlfn, unless there is such a file.

    ``run.folder`` is ``runs/<name of the file>`` unless given.

    Raises:
        InputError: on a file that cannot be read, an unknown key, and a value of the wrong type or out of range.
    """
    path = Path(path)
    if not path.is_file() and (packaged := _CONFIGS / f"{path}.toml").is_file():
        path = packaged
    table = _read(path)
    for override in overrides:
        _set(table, override)
    run = table.setdefault("run", {})
    if isinstance(run, dict):
        run.setdefault("folder", f"runs/{path.stem}")
    return _build(Config, table, "")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        # By their stems, since all the names end alike; in configs/ too, where a checkout has its own.
        others = {p.stem: p.stem for p in _CONFIGS.glob("*.toml")}
        others |= {p.stem: str(p) for folder in (Path("configs"), path.parent) for p in sorted(folder.glob("*.toml"))}
        near = get_close_matches(path.stem, others, 1)
        hint = f"did you mean {others[near[0]]!r}?" if near else "nor is there one of a similar name"
        raise InputError(f"no configuration at {str(path)!r}; {hint}") from None
    except OSError as error:
        raise InputError(f"cannot read the configuration {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} is not TOML: {error}") from None


class _Text(str):
    """A value from the command line, whose type its key decides."""

    def parsed(self, hint: Any) -> Any:
        try:
            value = tomllib.loads(f"value = {self}")["value"]
        except tomllib.TOMLDecodeError:
            return str(self)
        return str(self) if hint is str and not isinstance(value, str) else value


def _set(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"expected key=value, such as train.steps=50, got {override!r}")
    *parents, name = key.split(".")
    for depth, parent in enumerate(parents, 1):
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError(f"cannot set {key!r}: {'.'.join(parents[:depth])!r} is no table")
    table[name] = _Text(text)


def _build(schema: Any, table: Mapping[str, Any], path: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(schema)}
    hints = get_type_hints(schema)
    for key in table:
        if key not in fields:
            # At the top 'steps' finds 'train.steps'.
            hint = suggestion(key, fields, path) if path else suggestion(key, _keys(Config))
            raise InputError(f"unknown key {path + key!r}; {hint}")
    return schema(**{name: _value(table[name], hints[name], fields[name], path + name) for name in table})


def _keys(schema: Any, path: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(schema).items():
        yield path + name
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{path}{name}.")


def _value(value: Any, hint: Any, spec: dataclasses.Field, path: str) -> Any:
    if isinstance(value, _Text):
        value = value.parsed(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, _expect(value, dict, "a table", path), f"{path}.")
    if get_origin(hint) is dict:
        given = _expect(value, dict, "a table", path)
        return _OPTIMIZER | {k: v.parsed(Any) if isinstance(v, _Text) else v for k, v in given.items()}
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return tuple(_scalar(v, item, spec, f"{path}[{i}]") for i, v in enumerate(_expect(value, list, "a list", path)))
    return _scalar(value, hint, spec, path)


_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def _scalar(value: Any, kind: type, spec: dataclasses.Field, path: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    value = _expect(value, kind, _NAMES[kind], path)
    choices, limits = spec.metadata.get("choices"), spec.metadata
    if choices and value not in choices:
        raise InputError(f"{path} = {value!r}: {suggestion(value, choices)}")
    if "at_least" in limits and not value >= limits["at_least"]:
        raise InputError(f"{path} = {value!r}: must be at least {limits['at_least']}")
    if "above" in limits and not value > limits["above"]:
        raise InputError(f"{path} = {value!r}: must be above {limits['above']}")
    if "at_most" in limits and not value <= limits["at_most"]:
        raise InputError(f"{path} = {value!r}: must be at most {limits['at_most']}")
    return value


def _expect(value: Any, kind: type, name: str, path: str) -> Any:
    # bool is a subclass of int, but true is no number of steps.
    if type(value) is not kind:
        hint = f"; write {path}='[256, 128]'" if kind is list else ""
        raise InputError(f"{path} = {value!r}: expected {name}, got {type(value).__name__}{hint}")
    return value


def to_toml(config: Config) -> str:
    """The configuration as TOML that :func:`load` reads back to an equal one."""
    table = dataclasses.asdict(config)
    scalars = {key: value for key, value in table.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in scalars.items()]
    for name, section in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings and booleans are TOML's too, once non-ASCII characters are not escaped in pairs.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else repr(value)
