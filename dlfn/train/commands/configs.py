"""``dlfn configs``."""

import argparse

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.train.config import MODELS, keys, packaged
from dlfn.train.data import DATA
from dlfn.train.settings import described, hints_of, parameters
from dlfn.train.tasks import TASKS

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """list the configurations that come with dlfn, and every key with its type, default and meaning

With NAME, print that configuration: dlfn configs digits_mlp > my.toml begins one of your own."""
EXAMPLE = "dlfn configs text_gpt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="of a configuration to print")


def run(arguments: argparse.Namespace) -> int:
    known = packaged()
    if arguments.name is not None:
        if arguments.name not in known:
            raise InputError(f"no configuration {arguments.name!r}; {suggestion(arguments.name, known)}")
        print(known[arguments.name].read_text(encoding="utf-8"), end="")
        return 0
    print("configurations, for dlfn train NAME\n")
    for name, path in known.items():
        comment = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        print(f"  {name}\n      " + "\n      ".join(comment))
    print("\nkeys\n")
    for key, hint, default, meaning in keys():
        print(f"  {key} = {default!r} ({described(hint)})\n      {meaning}")
    for section, functions in (("data", DATA), ("model", MODELS), ("task", TASKS)):
        for name, function in functions.items():
            hints = hints_of(function)
            taken = [
                f"{p.name}: {described(hints.get(p.name, 'any'))}"
                + ("" if p.default is p.empty else f" = {p.default!r}")
                for p in parameters(function).values()
            ]
            print(f'\n  [{section}] name = "{name}"\n      ' + "\n      ".join(taken or ["no keys"]))
    return 0
