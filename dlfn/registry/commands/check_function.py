"""``dlfn check module:function``: the gradients of anybody's function."""

import argparse

from dlfn.core import InputError

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the comparison of one function, with the audit of the rules that it calls where it fails, and writes it to
    the file of ``--json``."""
    from dlfn.check import compare
    from dlfn.check.by_name import arguments_of, function_of, or_one_line
    from dlfn.files import write_text

    (name, *others), given = arguments.ops, arguments.args
    if others:
        raise InputError(f"check: {name!r} is checked by itself, without {', '.join(map(repr, others))}")
    function = function_of("check", name)
    args, kwargs = arguments_of("check", "checked", name, given)
    result = or_one_line(f"check: {name} raised", lambda: compare(function)(*args, **kwargs))
    print(result)
    if arguments.json:
        write_text(arguments.json, result.to_json() + "\n")
    return 0 if result.ok else 1
