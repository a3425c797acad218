"""``dlfn evaluate``."""

import argparse
import json

from dlfn.train.runs import evaluate

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """the loss and the metrics of a run's model on its test data, all of them, as JSON"""
EXAMPLE = "dlfn evaluate runs/digits_mlp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")
    parser.add_argument("--best", action="store_true", help="of the checkpoint with the lowest test/loss")


def run(arguments: argparse.Namespace) -> int:
    print(json.dumps(evaluate(arguments.folder, best=arguments.best)))
    return 0
