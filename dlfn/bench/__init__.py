"""Measuring ops against the best plain JAX."""

from dlfn.bench.measure import Measurement, measure

__all__ = ["Measurement", "measure"]
