"""What an exhibit of the museum is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

__all__ = ["ORDINARY", "Exhibit", "normal", "ruled"]

ORDINARY = "the arguments as they are"


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A gradient that shipped wrong, in a few lines of our own.

    Attributes:
        name: of the project and its bug.
        report: where it was reported or mended.
        what: what was wrong.
        definition: the function under the rules, whose line tells it from others.
        right, wrong: the same with a right and with a wrong rule.
        backward: the wrong rule.
        args: ordinary ones, such as the project's own tests had.
        argument: the name of the argument, or of one of them, whose gradient is wrong.
        found: by which probe, or ORDINARY.
        options: of ``dlfn.compare``.
    """

    name: str
    report: str
    what: str
    definition: Callable[..., Any]
    right: Callable[..., Any]
    wrong: Callable[..., Any]
    backward: Callable[..., Any]
    args: tuple[Any, ...]
    argument: str
    found: str = ORDINARY
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def ruled(definition: Callable[..., Any], forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """The function with a backward pass of its own."""
    rule = jax.custom_vjp(definition)
    rule.defvjp(forward, backward)
    return rule


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
