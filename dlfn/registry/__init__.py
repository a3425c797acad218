"""What is about dlfn's own ops: one entry per op feeds every sweep of the tests, ``dlfn check`` and ``dlfn bench``.

entry says what an entry is, cases has one for every op, and all is what has imported them.
"""

from dlfn.registry.entry import (
    ENTRIES,
    Bench,
    Case,
    Entry,
    Trap,
    absent,
    as_argument,
    class_ids,
    integers,
    key,
    normal,
    probabilities,
    register,
    uniform,
)

__all__ = [
    "ENTRIES",
    "Bench",
    "Case",
    "Entry",
    "Trap",
    "absent",
    "as_argument",
    "class_ids",
    "integers",
    "key",
    "normal",
    "probabilities",
    "register",
    "uniform",
]
