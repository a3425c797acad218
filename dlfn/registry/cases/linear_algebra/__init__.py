"""Entries of the ops in :mod:`dlfn.ops.linear_algebra`."""
