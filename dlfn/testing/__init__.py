"""Gradient checks in tests: of one function, and by ``pytest --dlfn-audit`` of every custom rule that tests meet."""

from dlfn.testing.assertions import assert_gradients

__all__ = ["assert_gradients"]
