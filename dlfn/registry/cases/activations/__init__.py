"""Entries of the ops in :mod:`dlfn.ops.activations`."""
