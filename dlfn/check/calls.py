"""What an audit found, as data and as a report."""

import dataclasses
from collections import Counter

from dlfn.check.rules import Rule
from dlfn.check.table import as_json
from dlfn.core import GradientError

__all__ = ["Audit", "Call"]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a hand-written rule.

    Attributes:
        rule: whose it is, and where it is written.
        line: where it is called, ``model.py:12:8 (loss)``.
        inside: what is around it, from outside to inside, with the step where it is worst: ``scan step 3 of 8``.
        ok: whether its value, gradients, and their linearity in the cotangent, are right at all steps.
        error: the largest error, relative to the largest entry of what it is in; None where it was not reached, or
            where something is not finite.
        worst: what that error is in, at which coordinate: ``gradient in w [2, 1]: 1.2 instead of 1.1``.
        reached: whether the call ran. It does not where a branch was not taken.
        nested: the name of the function with a rule in whose body it is, if any: there it is never differentiated,
            because that function's rule is applied.
        share: how much of the error of the whole gradient it explains, the projection on it; None where that was not
            computed. Those of all wrong rules add up to 1.
        reproducer: a program that shows the failure, if one was found.
        checked: whether it could be checked by itself; a note says why not.
        notes: what else there is to say.
        hidden: in narrow dtypes, how large a relative error of a whole gradient would not be seen.
    """

    rule: Rule
    line: str
    inside: str
    ok: bool
    error: float | None
    worst: str = ""
    reached: bool = True
    nested: str = ""
    share: float | None = None
    reproducer: str = ""
    checked: bool = True
    notes: tuple[str, ...] = ()
    hidden: float | None = None

    @property
    def called(self) -> str:
        """Where, in words."""
        return f"called at {self.line}" if self.line else "called as the function itself"

    def __str__(self) -> str:
        error = "" if self.error is None else f", {self.error:.1e}"
        called = self.called
        where = f", in {self.inside}" if self.inside else ""
        lines = [f"FAIL  {self.rule.name}: {self.worst}{error}", f"  {called}{where}"]
        lines.append(f"  defined at {self.rule.defined_at}, its derivative at {self.rule.derived_at}")
        if self.nested:
            lines.append(f"  it is in the body of {self.nested}, whose rule is applied: the gradient does not use it")
        if self.share is not None:
            lines.append(f"  it explains {100 * self.share:.4g} % of the error of the whole gradient")
        lines += [f"  {note}" for note in self.notes]
        if self.reproducer:
            lines += ["  to see it alone:", *(f"    {line}" for line in self.reproducer.splitlines())]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Audit:
    """What :func:`dlfn.audit` found. ``ok``, which is also its truth, says whether every rule that was reached is
    right; printing it gives the report.

    Attributes:
        calls: every call of a rule, in the order of the forward pass.
        dtype: in which the rules were checked.
        gradient_error: how far the wrong rules move the whole gradient, relative to it, in the Euclidean norm; None
            where no rule is wrong, or where that was not computed.
        notes: what could not be done, and why.
    """

    calls: tuple[Call, ...]
    dtype: str
    gradient_error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(call.ok for call in self.calls)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failures(self) -> tuple[Call, ...]:
        """The calls whose rules are wrong, those first that explain most of the gradient's error, or are most wrong."""
        wrong = [call for call in self.calls if not call.ok]
        return tuple(
            sorted(wrong, key=lambda c: (-abs(c.share or 0.0), -(float("inf") if c.error is None else c.error)))
        )

    def __str__(self) -> str:
        good = [call for call in self.calls if call.ok and call.reached and call.checked]
        missed = [call for call in self.calls if not call.reached]
        lines = [str(call) for call in self.failures]
        if self.gradient_error is not None:
            lines.append(f"the whole gradient is off by {self.gradient_error:.1e} of its norm because of this")
        if good:
            rules = Counter(call.rule.name for call in good)
            names = ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in rules.most_common())
            lines.append(f"right: {names}")
        hidden = {call.rule.name: call.hidden for call in sorted(good, key=lambda c: c.hidden or 0.0) if call.hidden}
        if hidden:
            least = ", ".join(f"{name} {size:.1e}" for name, size in hidden.items())
            lines.append(f"an error of a whole gradient is not seen below: {least}")
        lines += [f"not reached: {call.rule.name}, {call.called}" for call in missed]
        lines += [f"not checked: {c.rule.name}, {c.called}: {c.notes[0]}" for c in self.calls if not c.checked]
        lines += [f"{call.rule.name}, {call.called}: {note}" for call in good for note in call.notes]
        lines += self.notes
        if not self.calls:
            lines.append("NO HAND-WRITTEN RULE that is not JAX's own: there is nothing to audit")
        elif not good and self.ok:
            lines.append("NO RULE COULD BE CHECKED")
        elif self.ok:
            lines.append(f"all {len(good)} calls of hand-written rules are right: {self.dtype}")
        else:
            n = len(self.failures)
            lines.append(
                f"{n} OF {n + len(good)} CALLS OF HAND-WRITTEN RULES {'IS' if n == 1 else 'ARE'} WRONG: {self.dtype}"
            )
        return "\n".join(lines)

    def to_json(self) -> str:
        """Everything that was found, as JSON: ``ok``, and the fields by their names; see :class:`Comparison`."""
        return as_json({"ok": self.ok, **dataclasses.asdict(self)})

    def raise_if_failed(self) -> None:
        """Does nothing where all rules are right.

        Raises:
            GradientError: an ``AssertionError`` with the report, where one is not.
        """
        __tracebackhide__ = True
        if not self.ok:
            raise GradientError(f"\n{self}")
