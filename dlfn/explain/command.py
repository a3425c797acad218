"""``dlfn explain``."""

import argparse
from pathlib import Path
from typing import Any

from dlfn.core import InputError
from dlfn.explain.explanation import Explanation
from dlfn.files import require_writable

HELP = """every step of a model's loss, or of your function, and of its backward pass: equation, rule, value, δ

CONFIG is a TOML file of dlfn train, or the name of one that comes with dlfn: its loss on a few examples, with initial
parameters. RUN is the folder of a run: the same with its parameters. module:function is a function of yours, at the
arguments that --args names. Prints a table, and writes a page with -o. Exit code 1: the three gradients disagree."""
EXAMPLE = "dlfn explain digits_mlp -o digits.html; dlfn explain my.losses:focal --args my.losses:example -o focal.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="CONFIG|RUN|module:function", help="what to explain")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of CONFIG: a key of the file and its value")
    parser.add_argument(
        "--args",
        metavar="MODULE:NAME",
        help="for module:function: a tuple or dict of arguments, or a function that returns one",
    )
    parser.add_argument("--examples", type=int, default=4, help="of CONFIG and RUN: how many (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write a page, which needs no network")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all that is on the page as data")


def run(arguments: argparse.Namespace) -> int:
    if arguments.examples < 1:
        raise InputError(f"argument --examples: is {arguments.examples}, and must be 1 at least")
    if arguments.output is not None:
        if not arguments.output.parent.is_dir():
            raise InputError(f"argument -o: there is no folder {str(arguments.output.parent)!r}")
        require_writable(arguments.output)  # before the work
    found = _explanation(arguments)
    print(found)
    if arguments.output is not None:
        found.to_html(arguments.output)
        print(f"wrote {arguments.output}")
    if arguments.json is not None:
        found.write_json(arguments.json)
    return 0 if found.ok else 1


def _explanation(arguments: argparse.Namespace) -> Explanation:
    what, overrides = arguments.what, arguments.overrides
    is_function = ":" in what and not Path(what).exists()
    if arguments.args is not None and not is_function:
        raise InputError("argument --args: is for a function of yours, module:function; models have their data")
    if overrides and (is_function or Path(what).is_dir()):
        raise InputError(f"{overrides[0]!r}: a key and its value are for a configuration, and {what!r} is none")
    if is_function:
        return _of_function(what, arguments.args)
    from dlfn.train.config import load
    from dlfn.train.runs import explain_config, explain_run

    if Path(what).is_dir():
        return explain_run(what, arguments.examples)
    return explain_config(load(what, overrides), Path(what).stem, arguments.examples)


def _of_function(name: str, given: Any) -> Explanation:
    from dlfn.check.by_name import arguments_of, function_of, or_one_line
    from dlfn.explain.explaining import explain

    function = function_of("explain", name)
    args, kwargs = arguments_of("explain", "explained", name, given)
    return or_one_line(f"explain: {name} raised", lambda: explain(function, title=name)(*args, **kwargs))
