"""``dlfn predict``."""

import argparse
import json
from typing import Any

from dlfn.train.predicting import predict, read_inputs
from dlfn.train.runs import load

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """what a run's model says of new inputs, a line for each

INPUT is a file: .npy, .npz, or .csv for a table with the columns that the run was trained on. The numbers are in their
own units, such as pixels in bytes: they are prepared as in training. For a language model INPUT is a text, of which the
likeliest next tokens are printed."""
EXAMPLE = 'dlfn predict runs/digits_mlp images.npy    or: dlfn predict runs/text_gpt "To be"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")
    parser.add_argument("input", metavar="INPUT", help="a file, or a text")
    parser.add_argument("--top", type=int, default=5, help="how many next tokens are named (default: %(default)s)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print a JSON object for each example")


def run(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.folder)
    for prediction in predict(loaded, read_inputs(loaded, arguments.input), top=arguments.top):
        print(json.dumps(prediction) if arguments.as_json else _line(prediction))
    return 0


def _line(prediction: dict[str, Any]) -> str:
    if "next" in prediction:
        return "  ".join(f"{choice['token']!r} {choice['probability']:.4f}" for choice in prediction["next"])
    if "label" in prediction:
        return f"{prediction['label']}  {prediction['probability']:.4f}"
    (value,) = prediction.values()
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
