"""``dlfn sample``."""

import argparse
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dlfn import nn
from dlfn.core import InputError
from dlfn.train.parts import make_data
from dlfn.train.runs import load

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = """continue a text by a run's language model

The text may become longer than what the model sees at once: see dlfn.nn.generate."""
EXAMPLE = 'dlfn sample runs/text_gpt --prompt "To be" --length 200 --temperature 0.8 --top-k 20'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")
    parser.add_argument("--prompt", help="the beginning (default: a new line, or token 0 if there is none in the text)")
    parser.add_argument("--length", type=int, default=200, help="how many tokens to add (default: %(default)s)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0: the most likely token (default: %(default)s)"
    )
    parser.add_argument("--top-k", type=int, help="draw among so many of the most likely tokens alone")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.folder)
    info = loaded.info if "encode" in loaded.info else make_data(loaded.config).info
    if "encode" not in info:
        raise InputError(
            f"the run in {arguments.folder!r} is not of text with a known vocabulary, so that it cannot be continued"
        )
    prompt = _beginning(info) if arguments.prompt is None else arguments.prompt
    if not prompt:
        raise InputError("argument --prompt: it is empty, and must have a token at least")
    tokens = nn.generate(
        loaded.model,
        loaded.params,
        loaded.state,
        jnp.asarray(info["encode"](prompt), jnp.int32)[None],
        arguments.length,
        key=jax.random.key(arguments.seed),
        temperature=arguments.temperature,
        top_k=arguments.top_k,
    )
    print(prompt + info["decode"](tokens[0]))
    return 0


def _beginning(info: Mapping[str, Any]) -> str:
    """A new line; a text of one line has none among its characters."""
    try:
        info["encode"]("\n")
    except InputError:
        return info["decode"]([0])
    return "\n"
