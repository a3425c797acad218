"""Measuring ops against the best plain JAX."""

from dlfn.bench.machine import environment
from dlfn.bench.measurement import Measurement, measure

__all__ = ["Measurement", "environment", "measure"]
