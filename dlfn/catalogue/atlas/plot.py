"""Plots of f, f′ and the errors of f′ over the whole range of float32, as SVG with a script in it."""

import html
import json
from importlib.resources import files
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import autodiff
from dlfn.registry import ulp
from dlfn.registry.all import entries
from dlfn.registry.entry import Case, Entry

__all__ = ["EXPLANATION", "figures"]

EXPLANATION = (
    "f and f′ in float32; and the error of f′ over all of float32, in units in the last place, against a closed "
    "form in long double: the largest in each of 512 parts of the range, on a logarithmic scale. Autodiff is that of JAX's own "
    "function, or of the definition. Keys or buttons zoom and move; the pointer reads values."
)

_BINS = 512
_TOP = 1e8  # where larger errors, and derivatives that are not finite, are drawn


def figures(name: str) -> list[str]:
    """HTML of a figure for each configuration of an elementwise op; none for other objects."""
    room, _, op = name.rpartition(".")
    if room != "dlfn.ops":
        return []
    entry = next((each for each in entries() if each.op.name == op), None)
    if entry is None or not entry.elementwise:
        return []
    return [_figure(entry, case) for case in entry.cases]


def _figure(entry: Entry, case: Case) -> str:
    title = entry.op.name + "".join(f", {key} = {value}" for key, value in case.static.items())
    data = json.dumps({"title": title, "curves": _curves(entry, case), "errors": _errors(entry, case)})
    id = f"atlas-{entry.op.name}-{case.name}".replace(" ", "-").replace("_", "-")
    style, script = (
        files("dlfn.catalogue.atlas").joinpath(f"plot.{kind}").read_text("utf-8") for kind in ("css", "js")
    )
    # One line for a blank one would end the block of HTML in Markdown.
    blocks = [
        f'<figure class="atlas-plot" id="{html.escape(id)}">',
        f"<figcaption>{html.escape(title)}</figcaption>",
        f'<script type="application/json">{data.replace("<", chr(92) + "u003c")}</script>',
        f"<style>{_packed(style)}</style>",
        f"<script>{_packed(script)}</script>",
        "</figure>",
    ]
    return "\n".join(blocks)


def _packed(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip())


def _curves(entry: Entry, case: Case) -> dict[str, Any]:
    x = np.unique(np.concatenate([np.linspace(-100, 100, 801), np.linspace(-10, 10, 801)])).astype(np.float32)
    f = lambda x: entry.op(x, **case.static)  # noqa: E731
    y, back = jax.vjp(f, jnp.asarray(x))
    (slope,) = back(jnp.ones_like(y))
    return {"x": _short(x), "f": _short(np.asarray(y)), "f′": _short(np.asarray(slope))}


def _errors(entry: Entry, case: Case) -> dict[str, Any]:
    """The largest error of the hand-written rule and of autodiff in each part of float32's numbers, in their order."""
    assert case.slope is not None
    baselines = [bench.baselines for bench in entry.benches if bench.name == case.name]
    plain = next((each["jax.nn"] for each in baselines if "jax.nn" in each), autodiff(entry.op))
    [x] = ulp.inputs("float32", case.slope, case.static)
    x = x[np.isfinite(x)]
    exact = ulp.Exact(case.slope, x, case.static)
    order = _order(x)
    part = ((order - _order(np.float32(-np.inf))) * _BINS // (2 * _order(np.float32(np.inf)) + 1)).astype(int)
    found = {}
    for name, f in (("dlfn", entry.op), ("autodiff", plain)):
        largest = np.full(_BINS, -1.0)
        error = np.minimum(np.nan_to_num(exact.errors(ulp.derivative(f, case.static)(x)), nan=_TOP, posinf=_TOP), _TOP)
        np.maximum.at(largest, part, error)
        found[name] = [None if value < 0 else float(f"{value:.3g}") for value in largest]
    return found


def _order(x: Any) -> Any:
    """The place of a float32 among all: its bits as a signed number."""
    bits = np.asarray(x, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _short(values: Any) -> list[float | None]:
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
