"""The atlas: a page of Markdown for every formula, made of the catalogue, the derivations, the registry and the code.

``python -m dlfn.catalogue.atlas FOLDER`` writes it.
"""

from dlfn.catalogue.atlas.pages import page, write

__all__ = ["page", "write"]
