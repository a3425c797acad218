"""An explanation as a table in the terminal."""

from typing import Any

from dlfn.check.table import format_table, shortened
from dlfn.explain.summaries import described

__all__ = ["text_of"]


def text_of(found: Any, columns: int) -> str:
    shown = [step for step in found.steps if not step.minor]
    wide = {"step": min(28, max([len(step.name) for step in shown], default=0)), "op": 0}
    wide["op"] = min(18, max([len(_what(step)) for step in shown], default=0))
    room = max(16, (columns - wide["step"] - wide["op"] - 24) // 2)
    lines = []
    for step in shown:
        agrees = step.parameters
        lines.append((
            str(step.id), shortened(step.name, wide["step"]), shortened(_what(step), wide["op"]),
            described(step.value, room), described(step.delta, room),
            "" if not agrees else "agree" if all(p.ok for p in agrees) else "DISAGREE",
        ))  # fmt: skip
    head = (
        f"{found.title}: {_figure(found.value)}, {len(found.steps)} steps, {len(found.steps) - len(shown)} minor ones"
    )
    table = format_table(("", "step", "op", "value", "δ", "gradients"), lines)
    agreement = found.agreement
    verdict = "the three gradients agree" if found.ok else "THE GRADIENTS DISAGREE"
    parts = [
        f"{name} {error:.1e} from jax.grad"
        for name, error in (("backprop", agreement.backprop), ("autodiff", agreement.autodiff))
        if error is not None
    ]
    return "\n".join([head, table, f"{verdict}: {', '.join(parts) or 'there are none'}", *agreement.notes])


def _what(step: Any) -> str:
    return f"{step.op} × {step.times}" if step.times > 1 else step.op


def _figure(value: float) -> str:
    return f"{value:.6g}"
