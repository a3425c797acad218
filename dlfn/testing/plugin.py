"""``pytest --dlfn-audit``: checks every custom rule that a project's tests meet, at the arguments that they give it."""

import dataclasses
import inspect
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jax.extend import source_info_util

from dlfn.check import audit, compare
from dlfn.check.opinions import reason
from dlfn.core import Op
from dlfn.testing.recording import Recorded, Recorder

__all__ = ["AuditPlugin"]

# The lines that JAX names in messages stay those of the project.
source_info_util.register_exclusion(str(Path(__file__).parent))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of checking one call: ``ok`` is None where it could not be checked, and ``report`` says why."""

    call: Recorded
    ok: bool | None
    report: str


class AuditPlugin:
    """Records while the tests run, and checks at the end. One wrong rule fails the session."""

    def __init__(self, config: pytest.Config):
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--dlfn-audit records in one process: leave --numprocesses out, or give it 0")
        self._root = f"{config.rootpath}{os.sep}"
        self._ignored = set(config.option.dlfn_audit_ignore)
        self._recorder = Recorder()
        self._recording = self._recorder.recording()
        self._outcomes: list[Outcome] = []

    def pytest_sessionstart(self) -> None:
        self._recording.__enter__()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._recording.__exit__(None, None, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calls = [call for call in self._recorder.calls if call.name not in self._ignored]
            self._outcomes = [_outcome(call) for call in calls]
        if session.exitstatus == pytest.ExitCode.OK and any(outcome.ok is False for outcome in self._outcomes):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("dlfn audit")
        for line in self._lines():
            terminalreporter.write_line(line)

    def _lines(self) -> Iterator[str]:
        """The wrong ones come last, with their tables, where they are seen."""
        right = Counter(self._described(outcome) for outcome in self._outcomes if outcome.ok)
        for line, times in right.items():
            yield line + f" ({times} rules of one line)" * (times > 1)
        for ok in (None, False):
            for outcome in self._outcomes:
                if outcome.ok is ok:
                    yield self._described(outcome)
                    yield f"  met at {outcome.call.called_at.removeprefix(self._root)}"
                    yield from (f"  {line}" for line in outcome.report.split("\n"))
        for name in sorted({call.name for call in self._recorder.calls} & self._ignored):
            yield f"ignored: {name}"
        for place in sorted(self._recorder.crowded):
            yield f"not checked: more rules that {place.removeprefix(self._root)} made, for arguments of the same types"
        if any(outcome.call.drawn for outcome in self._outcomes):
            yield (
                "values drawn: under jit and vmap only the types of arguments are known; floats are normal numbers, "
                "integers are 0"
            )
        found = [outcome.ok for outcome in self._outcomes]
        yield (
            f"calls of custom rules: {len(found)}, right: {found.count(True)}, wrong: {found.count(False)}, "
            f"not checked: {found.count(None)}"
        )

    def _described(self, outcome: Outcome) -> str:
        verdict = {True: "ok", None: "not checked", False: "WRONG"}[outcome.ok]
        call = str(outcome.call).removeprefix(self._root)
        return f"{verdict}: {call}{' (values drawn)' * outcome.call.drawn}"


def _outcome(call: Recorded) -> Outcome:
    try:
        result = _check(call)
    except Exception as error:  # whatever a rule of someone's raises is no reason to leave the others unchecked
        return Outcome(call, None, reason(error))
    return Outcome(call, result.ok, str(result))


def _check(call: Recorded) -> Any:
    """The audit of a rule at the arguments of its call; where that takes the rule for one of JAX's own, as those that
    ``jax.custom_gradient`` makes, the comparison."""
    rule, (args, kwargs) = call.rule, call.arguments()
    if not isinstance(rule, Op):
        rule, args, kwargs = _differentiated(rule, args, kwargs)
    found = audit(rule)(*args, **kwargs)
    return found if found.calls else compare(rule, custom_jvp=True)(*args, **kwargs)


def _differentiated(rule: Any, args: Any, kwargs: Any) -> Any:
    """A rule of JAX as a function of its differentiated arguments alone, and these."""
    signature = inspect.signature(rule.fun)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    given = dict(enumerate(bound.args))
    moving = [i for i in given if i not in rule.nondiff_argnums]

    def of_moving(*values: Any) -> Any:
        return rule(*{**given, **dict(zip(moving, values, strict=True))}.values())

    kept = [parameter for i, parameter in enumerate(signature.parameters.values()) if i not in rule.nondiff_argnums]
    of_moving.__signature__ = signature.replace(parameters=kept)  # for the names of the leaves
    return of_moving, [given[i] for i in moving], {}
