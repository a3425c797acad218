"""The command line: ``dlfn COMMAND ...``."""

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.files import require_writable

__all__ = ["main"]

# A command is a module with HELP, EXAMPLE, add_arguments(parser) and run(arguments) -> exit code. Only the one that is
# asked for is imported.
_COMMANDS = {
    "train": ("dlfn.train.commands.train", "train a model from a TOML file"),
    "configs": ("dlfn.train.commands.configs", "list the configurations that come with dlfn, and all keys"),
    "evaluate": ("dlfn.train.commands.evaluate", "evaluate a trained model on its test data"),
    "predict": ("dlfn.train.commands.predict", "what a trained model says of new inputs"),
    "sample": ("dlfn.train.commands.sample", "continue a text by a trained model"),
    "export": ("dlfn.train.commands.export", "write a trained model for use without dlfn"),
    "report": ("dlfn.train.commands.report", "a page about one or several runs: curves, results, differences"),
    "check": ("dlfn.registry.commands.check", "check gradients against autodiff and finite differences"),
    "explain": ("dlfn.explain.command", "a page about every step of a model, a run or a function"),
    "bench": ("dlfn.registry.commands.bench", "time ops against plain JAX"),
    "formulas": ("dlfn.catalogue.command", "print and check the formulas of the documents"),
}

_USAGE = "\n".join(
    [
        "usage: dlfn COMMAND [-h] ...",
        "",
        *(f"  {name:<10}{purpose}" for name, (_, purpose) in _COMMANDS.items()),
        "",
        "dlfn COMMAND --help describes a command, for example: dlfn train --help",
        "dlfn --version prints the versions of dlfn and jax",
        "",
        "exit codes: 0 success, 1 what was checked or trained failed, 2 bad input, 130 interrupted",
    ]
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    >>> main(["--help"])  # doctest: +ELLIPSIS
    usage: dlfn COMMAND [-h] ...
    ...
    0
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # the reader of our output has gone, as in `dlfn check | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        print(f"dlfn: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dlfn: interrupted", file=sys.stderr)
        return 130


def _run(argv: list[str]) -> int:
    if argv and argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if argv == ["--version"]:
        print(f"dlfn {_version('dlfn')}, jax {_version('jax')}")
        return 0
    if not argv:
        raise InputError(f"no command given; {suggestion('', _COMMANDS)}")
    if argv[0] not in _COMMANDS:
        raise InputError(f"unknown command {argv[0]!r}; {suggestion(argv[0], _COMMANDS)}")
    name, *rest = argv
    command = importlib.import_module(_COMMANDS[name][0])
    parser = _Parser(
        prog=f"dlfn {name}",
        description=command.HELP,
        epilog=f"example: {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    try:
        arguments = parser.parse_intermixed_args(rest)  # a flag may stand before key=value
    except SystemExit as stop:  # argparse leaves by SystemExit after --help
        return int(stop.code or 0)
    if path := getattr(arguments, "json", None):
        if not path.parent.is_dir():
            raise InputError(f"argument --json: cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
        try:
            require_writable(path)  # before the work
        except OSError as error:
            raise InputError(f"argument --json: cannot write {str(path)!r}: {error.strerror}") from None
    return command.run(arguments)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
