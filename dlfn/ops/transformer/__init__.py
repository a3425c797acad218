"""Attention, and how positions enter it."""
