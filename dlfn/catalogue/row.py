"""What the catalogue holds of one formula."""

import dataclasses

__all__ = ["Row"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One formula of the documents.

    Attributes:
        id: its name here, ``family.formula``.
        where: documents and sections, such as ``"001 section 3"``; ``"peers"`` for what only other libraries have.
        latex: the formula, and its derivative where that is hand-derived.
        objects: dotted names of public objects that implement it, beside the ops that name the id in their registry
            entries.
        erratum: what a document has wrong, or where two of them disagree; None where nothing is.
        papers: the original publications, which dlfn/catalogue/papers.py lists.
    """

    id: str
    where: str
    latex: str
    objects: tuple[str, ...] = ()
    erratum: str | None = None
    papers: tuple[str, ...] = ()
