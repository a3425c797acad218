"""``dlfn train``."""

import argparse
import sys
from pathlib import Path

from dlfn.train.config import DEFAULT, load
from dlfn.train.loop import TrainingError, train

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """train a model from a TOML file, whose keys can be set on the command line

Without CONFIG it is digits_mlp, a small network for handwritten digits; configuration and data come with dlfn.

The run's folder (run.folder, by default runs/<name of the file>) receives config.toml, the configuration with every
key; metrics.jsonl, whose last line holds step and test/accuracy; and, once the run has succeeded, params.safetensors.
An earlier run there is moved aside, to <folder>.1 or the next free number."""
EXAMPLE = "dlfn train digits_mlp train.steps=50 gradient=backprop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", default=DEFAULT, help="a TOML file, or digits_mlp (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="a key of the file and its value")


def run(arguments: argparse.Namespace) -> int:
    config, overrides = arguments.config, arguments.overrides
    if "=" in config and not Path(config).exists():  # the first override, of the default
        config, overrides = DEFAULT, [config, *overrides]
    try:
        train(load(config, overrides))
    except TrainingError as error:
        print(f"dlfn: error: {error}", file=sys.stderr)
        return 1
    return 0
