"""What the cases of binary, cross_entropy, focal and regression share."""

from dlfn.registry.entry import Case, class_ids, normal

__all__ = ["both", "ignored_by_label", "size", "with_ids"]


def size(x, *_):
    return x.size


def both(name, oracle, arguments, scalar_rows=True, ignored=None):
    """The cases of a loss's reductions."""
    return tuple(
        Case(
            arguments, {"reduction": reduction}, f"{name}{reduction}", oracle, size, scalar_rows, reduction != "mean",
            ignored=ignored,
        )
        for reduction in ("mean", "sum", "none")
    )  # fmt: skip


def with_ids(lead):
    return normal(*lead, 5), class_ids(5, *lead)


def ignored_by_label(logits, labels, *, reduction, **_):
    rows = labels == -100
    return (rows[..., None], None), (rows if reduction == "none" else None,)
