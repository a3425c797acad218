"""Wrong gradients that shipped in well-known kernels, re-created in plain JAX: what found them, and what did not."""

from museum import attention, elementwise, losses, normalisation, precision, scans, selection

__all__ = ["EXHIBITS"]

EXHIBITS = (
    *normalisation.EXHIBITS,
    *losses.EXHIBITS,
    *attention.EXHIBITS,
    *scans.EXHIBITS,
    *selection.EXHIBITS,
    *elementwise.EXHIBITS,
    *precision.EXHIBITS,
)
