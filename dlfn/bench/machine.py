"""What figures of speed depend on besides the code."""

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

import jax

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """The machine, the versions and the date of a measurement, for the file that keeps it.

    >>> from dlfn.bench import environment
    >>> sorted(environment())
    ['cores', 'date', 'device', 'dlfn', 'jax', 'jaxlib', 'processor', 'python', 'system']
    """
    versions = {name: _version(name) for name in ("dlfn", "jax", "jaxlib")}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout that is on the path and not installed
        return "(not installed)"


def _processor() -> str:
    """The model of the CPU. ``platform.processor`` is empty on most Linux systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
