"""The catalogue: every formula of the source documents, what implements it, and what checks it.

>>> from dlfn import catalogue
>>> row = catalogue.find("activation.softplus")
>>> print(row.where, row.latex)
002 section 2.8 \\ln(1 + e^z), \\quad \\sigma(z)
>>> catalogue.implemented_by(row)
['dlfn.ops.softplus']
>>> [check.name.split(":")[0] for check in catalogue.checks(row)]
['dlfn.ops.softplus']

``dlfn formulas`` prints it, and ``dlfn formulas --check`` runs the checks.
"""

import dataclasses

from dlfn._suggest import suggestion
from dlfn.catalogue import foundations, layers, training
from dlfn.catalogue.coverage import Check, checks, implemented_by, resolve
from dlfn.catalogue.papers import PAPERS
from dlfn.catalogue.row import Row
from dlfn.core import InputError

__all__ = ["ROWS", "Check", "Row", "checks", "find", "implemented_by", "resolve"]

ROWS = tuple(
    dataclasses.replace(row, papers=PAPERS.get(row.id, ())) for row in foundations.ROWS + layers.ROWS + training.ROWS
)


def find(id: str) -> Row:
    """The row of an id.

    Raises:
        InputError: on an id that is none, with the nearest one.
    """
    for row in ROWS:
        if row.id == id:
            return row
    ids = [row.id for row in ROWS]
    raise InputError(f"unknown formula {id!r}; {suggestion(id, ids, otherwise='`dlfn formulas` lists all')}")
