"""``dlfn train``."""

import argparse
import sys
from pathlib import Path

from dlfn.train.config import DEFAULT, load
from dlfn.train.diagnosis import TrainingError
from dlfn.train.memory import keep_freed_memory
from dlfn.train.parts import dry_run, train
from dlfn.train.processes import join

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """train a model from a TOML file, whose keys can be set on the command line

Without CONFIG it is digits_mlp, a small network for handwritten digits; configuration and data come with dlfn.
dlfn configs lists all that come with it, and every key.

The run's folder (run.folder, by default runs/<name of the file>) receives config.toml, the configuration with every
key; metrics.jsonl; checkpoints; and at the end params.safetensors and finished.json. The same command again goes on
where the run was interrupted. Nothing in the folder is deleted: another configuration is refused there, unless --fresh
moves the earlier run aside.

Ctrl-C and SIGTERM end a run after the steps at hand and a checkpoint; a second one ends it at once."""
EXAMPLE = "dlfn train digits_mlp train.steps=50 gradient=backprop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", default=DEFAULT, help=f"a TOML file, or a name (default: {DEFAULT})")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="a key of the file and its value")
    parser.add_argument("--fresh", action="store_true", help="move an earlier run in the folder aside, to NAME.1")
    parser.add_argument("--dry-run", action="store_true", help="compile, take one step, and write nothing")
    parser.add_argument("--profile", action="store_true", help="record the second dispatch, for TensorBoard or XProf")


def run(arguments: argparse.Namespace) -> int:
    join()
    config, overrides = arguments.config, arguments.overrides
    if "=" in config and not Path(config).exists():  # the first override, of the default
        config, overrides = DEFAULT, [config, *overrides]
    config = load(config, overrides)
    keep_freed_memory()
    try:
        if arguments.dry_run:
            print(dry_run(config))
            return 0
        result = train(config, fresh=arguments.fresh, profile=arguments.profile)
    except TrainingError as error:
        print(f"dlfn: error: {error}", file=sys.stderr)
        return 1
    return 130 if result.stopped not in (None, "patience") else 0
