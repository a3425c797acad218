"""Values against functions that nobody here wrote, by the id of the row: what is compared with, and the comparison."""

from collections.abc import Callable

from dlfn.catalogue.oracles import foundations, layers, training

__all__ = ["ORACLES"]

ORACLES: dict[str, tuple[str, Callable[[], None]]] = {**foundations.ORACLES, **layers.ORACLES, **training.ORACLES}
