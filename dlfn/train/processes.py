"""A run in several processes, on one machine or on many: how they find each other."""

import os
import re
from collections.abc import Mapping
from typing import Any

import jax

from dlfn.core import InputError

__all__ = ["join"]

_ADDRESS, _COUNT, _ID = _VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_SECONDS = 120


def join(environment: Mapping[str, str] = os.environ, *, seconds: int = _SECONDS) -> None:
    """Joins the other processes of a run, if the environment says that there are any, before anything is computed.

    Three variables say so: ``JAX_COORDINATOR_ADDRESS``, as ``host:port`` of the first process, ``JAX_NUM_PROCESSES``
    and ``JAX_PROCESS_ID``, which counts from 0. Under SLURM with several tasks none is needed, as JAX knows its
    variables. Afterwards ``jax.devices()`` are those of all.

    Args:
        environment: in which to look.
        seconds: after which a process that has not found the others gives up.

    Raises:
        InputError: where some of the variables are missing, or wrong, and when the others cannot be reached.

    >>> join({})
    >>> join({"JAX_PROCESS_ID": "0"})
    Traceback (most recent call last):
    dlfn.core.errors.InputError: JAX_COORDINATOR_ADDRESS is not set, and JAX_PROCESS_ID is; several processes need ...
    """
    given = [name for name in _VARIABLES if environment.get(name)]
    if not given:
        if int(environment.get("SLURM_NTASKS") or 1) > 1 and "SLURM_PROCID" in environment:
            _initialize("the processes of SLURM", seconds)
        return
    missing = [name for name in _VARIABLES if name not in given]
    if missing:
        raise InputError(f"{missing[0]} is not set, and {given[0]} is; several processes need {', '.join(_VARIABLES)}")
    address, count, number = environment[_ADDRESS], _number(_COUNT, environment), _number(_ID, environment)
    if not re.fullmatch(r".+:\d+", address):
        raise InputError(
            f"{_ADDRESS} = {address!r}: must be the host and port of the first process, as in 10.0.0.1:1234"
        )
    if count < 1 or number >= count:
        raise InputError(f"{_ID} = {number}: must be below {_COUNT} = {count}, as processes count from 0")
    if count > 1:
        _initialize(f"the {count} processes at {_ADDRESS} = {address!r}", seconds, address, count, number)


def _number(name: str, environment: Mapping[str, str]) -> int:
    if not environment[name].isdecimal():
        raise InputError(f"{name} = {environment[name]!r}: must be an integer, 0 or more")
    return int(environment[name])


def _initialize(what: str, seconds: int, *arguments: Any) -> None:
    try:
        jax.distributed.initialize(*arguments, initialization_timeout=seconds)
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(f"cannot join {what}: {said}; start all of them, each with its own number") from None
