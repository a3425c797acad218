"""Normalisation of activations (over a batch, channels or rows) and of weights."""
