"""The compiled programs of a run's steps."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.train.recording import Recorder

__all__ = ["Programs"]


class Programs:
    """A dispatch, compiled for every number of steps that there is.

    XLA on CPU takes ten times as long for a convolution inside of a loop. There the steps of a dispatch with
    convolutions are calls of one program, one after the other.
    """

    def __init__(self, dispatch: Any, recorder: Recorder, say: Callable[[str], None]):
        self._dispatch, self._recorder, self._say = dispatch, recorder, say
        self._compiled: dict[int, Any] = {}
        self._one_by_one = False

    def __call__(self, steps: int, carry: Any, resident: Any, key: Any, first: Any, drawn: Any) -> Any:
        if steps > 1 and not self._one_by_one:
            program = self._program(steps, carry, resident, key, first, drawn)
            if program is not None:
                return program(carry, resident, key, first, drawn)
        reported = []
        for index in range(steps):
            part = jax.tree.map(lambda a, i=index: a[i : i + 1], drawn)
            arguments = carry, resident, key, np.int32(first + index), part
            carry, metrics = self._program(1, *arguments)(*arguments)
            reported.append(metrics)
        return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *reported)

    def _program(self, steps: int, *arguments: Any) -> Any:
        """The program of so many steps; None for several where they are to be taken one by one."""
        if steps not in self._compiled:
            self._recorder.stop_clock()
            started = time.perf_counter()
            lowered = self._dispatch.lower(*arguments)
            if steps > 1 and jax.default_backend() == "cpu" and "stablehlo.convolution" in lowered.as_text():
                self._one_by_one = True
                return None
            self._compiled[steps] = lowered.compile()
            if len(self._compiled) == 1:
                self._say(f"compiled in {time.perf_counter() - started:.2f} s")
            self._recorder.resume_clock()
        return self._compiled[steps]
