"""``dlfn report``."""

import argparse

from dlfn.train.reporting import report

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """write one HTML page about one or several runs, which needs no other file and no network

It has curves, with runs over each other, final metrics, gradient norms by layer, a confusion matrix, samples or
reconstructions, the differences of the configurations, and what the runs were computed with."""
EXAMPLE = "dlfn report runs/digits_mlp runs/digits_wide -o digits.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write (default: RUN/report.html, or report.html for several)"
    )


def run(arguments: argparse.Namespace) -> int:
    print(f"wrote {report(arguments.folders, arguments.output)}")
    return 0
