"""Where a run is computed."""

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from typing import Any

import jax

__all__ = ["environment"]

_PACKAGES = ("dlfn", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")


def environment() -> dict[str, Any]:
    """The time, the versions and the devices at hand, as JSON can keep them.

    >>> sorted(environment())
    ['cpus', 'devices', 'float', 'processes', 'python', 'system', 'time', 'versions']
    """
    device = jax.devices()[0]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "devices": f"{jax.device_count()} × {device.device_kind} ({device.platform})",
        "processes": jax.process_count(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "float": jax.dtypes.canonicalize_dtype(float).name,
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
