"""Losses: of predictions, of class ids and distributions, of sequences and of parameters."""
