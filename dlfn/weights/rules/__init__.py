r"""How other libraries lay out the arrays that are leaves here, both ways.

A :class:`Rule` turns arrays of a file into leaves of a tree by ``load``, and back by ``save``: ``load(*save(*leaves))``
equals ``leaves``. Gradients go by ``load_gradients`` and ``save_gradients``: where arrays are summed into a leaf, its
gradient is that of each, and where an array goes into several leaves, its gradient is the sum of theirs. Rules are
plain data, compare equal, and know of numpy alone.
"""

from dlfn.weights.rules.layout import (
    Flattened,
    Identity,
    Moved,
    Squeezed,
    Unsqueezed,
    identity,
    kernel,
    transpose,
    transposed_kernel,
)
from dlfn.weights.rules.parts import Equal, Joined, Split, Tied
from dlfn.weights.rules.recurrent import GRUBias, GRUWeight, Summed
from dlfn.weights.rules.rule import Rule

__all__ = [
    "Equal",
    "Flattened",
    "GRUBias",
    "GRUWeight",
    "Identity",
    "Joined",
    "Moved",
    "Rule",
    "Split",
    "Squeezed",
    "Summed",
    "Tied",
    "Unsqueezed",
    "identity",
    "kernel",
    "transpose",
    "transposed_kernel",
]
