"""Whether two sets of training runs differ, in words."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.statistics._samples import welch
from dlfn.statistics._tails import t_quantile
from dlfn.statistics.hypothesis import welch_t_test
from dlfn.statistics.permutation import permutation_test

__all__ = ["Comparison", "compare_runs"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sets of runs compared. ``print`` says it in words.

    Attributes:
        significant: whether p < α.
        means: of a and of b.
        runs: how many of each.
        effect: the mean of b less that of a.
        interval: Welch's confidence interval of the effect, that leaves out α; None of a permutation test.
        p_value: two-sided; nan where no run differs from any other.
        alpha: the level.
        test: its name.
        metric: what was compared.
    """

    significant: bool
    means: tuple[float, float]
    runs: tuple[int, int]
    effect: float
    interval: tuple[float, float] | None
    p_value: float
    alpha: float
    test: str
    metric: str

    def __str__(self) -> str:
        (a, b), (n_a, n_b) = self.means, self.runs
        found = f"{self.metric}: a {a:.4g} ({n_a} runs), b {b:.4g} ({n_b} runs)."
        if self.p_value != self.p_value:
            return f"{found} All runs are equal: there is no difference, and no spread to test one by."
        way = "higher" if self.effect > 0 else "lower"
        effect = f"b is {way} by {abs(self.effect):.3g}" if self.effect else "The means are equal"
        if self.interval is not None:
            low, high = self.interval
            effect += f", {100 * (1 - self.alpha):.4g} % confidence interval of b - a [{low:.3g}, {high:.3g}]"
        if self.significant:
            verdict = f"The difference is significant: p = {self.p_value:.2g} < {self.alpha:g}"
        else:
            verdict = f"The difference is not significant: p = {self.p_value:.2g}, and not below {self.alpha:g}"
        return f"{found} {effect}. {verdict} ({self.test})."


def compare_runs(
    a: Any,
    b: Any,
    *,
    alpha: float = 0.05,
    metric: str = "test/loss",
    test: str = "welch",
    key: jax.Array | None = None,
) -> Comparison:
    r"""Whether two sets of training runs, which should differ in their seeds alone, differ on average.

    That they do not is :math:`H_0`. Choose ``alpha``, ``test`` and the numbers of runs before you look. A difference
    that is not significant may still be there: Welch's interval says how large it could be.

    Args:
        a: the final metrics of the runs; or their folders, as ``dlfn train`` writes them.
        b: likewise, of the others.
        alpha: how often a difference is found where there is none.
        metric: its name in the folders' ``metrics.jsonl``; the last value counts.
        test: "welch", the t-test of :func:`welch_t_test`; or "permutation", :func:`permutation_test`, which assumes no
            distribution, and has no interval. Of few runs its p is bound to be large: 0.1 of 3 and 3 at the least,
            0.036 of 3 and 5, 0.029 of 4 and 4.
        key: of the permutations, where there are too many to try all.

    Raises:
        InputError: on fewer than two runs of a kind, metrics that are not finite, folders without the metric, an alpha
            outside of (0, 1), and an unknown test.

    Source: 004 hypothesis testing.

    >>> print(compare_runs([0.52, 0.55, 0.50, 0.54, 0.53], [0.47, 0.49, 0.46, 0.50, 0.48]))
    test/loss: a 0.528 (5 runs), b 0.48 (5 runs). b is lower by 0.048, 95 % confidence interval of b - a
    [-0.0738, -0.0222]. The difference is significant: p = 0.0028 < 0.05 (Welch's t-test).
    """
    if not 0 < alpha < 1:
        raise InputError(f"compare_runs: alpha is {alpha!r}, and must be between 0 and 1, such as 0.05")
    if test not in ("welch", "permutation"):
        raise InputError(f"compare_runs: test is {test!r}, and must be 'welch' or 'permutation'")
    values = [_metrics(name, runs, metric) for name, runs in (("a", a), ("b", b))]
    with jax.enable_x64(True):
        first, second = (jnp.asarray(x) for x in values)
        effect, error, df = welch(second, first)
        if test == "welch":
            p, name = float(welch_t_test(second, first).p_value), "Welch's t-test"
            reach = t_quantile(alpha / 2, df) * error
            interval = float(effect - reach), float(effect + reach)
        else:
            p, name = float(permutation_test(second, first, key=key).p_value), "permutation test"
            interval = None
        if float(error) == 0 and float(effect) == 0:
            p = float("nan")
        return Comparison(
            significant=p < alpha,
            means=(float(jnp.mean(first)), float(jnp.mean(second))),
            runs=(first.size, second.size),
            effect=float(effect),
            interval=interval,
            p_value=p,
            alpha=alpha,
            test=name,
            metric=metric,
        )


def _metrics(name: str, runs: Any, metric: str) -> np.ndarray:
    if isinstance(runs, str | Path):
        raise InputError(f"compare_runs: {name} is one folder, {str(runs)!r}, and must be several runs' in a list")
    if isinstance(runs, Sequence) and any(isinstance(run, str | Path) for run in runs):
        runs = [_last(Path(run), metric) for run in runs]
    values = np.asarray(runs, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise InputError(
            f"compare_runs: {name} has the shape {list(values.shape)}, and must be one number for each of at least two "
            "runs: one alone does not show how much runs vary"
        )
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise InputError(
            f"compare_runs: {name} has the entry {values[at]} at {at}, and must be finite; a run that failed has no "
            "metric to compare: say how many did, and leave them out"
        )
    return values


def _last(folder: Path, metric: str) -> float:
    path = folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"compare_runs: cannot read {str(path)!r}: {error.strerror}; pass folders of runs") from None
    except ValueError as error:
        raise InputError(f"compare_runs: {str(path)!r} holds a line that is not JSON: {error}") from None
    found = [line[metric] for line in lines if metric in line]
    if not found:
        known = sorted({name for line in lines for name in line} - {"step"})
        raise InputError(f"compare_runs: {str(path)!r} has no metric {metric!r}; it has {', '.join(known) or 'none'}")
    return float("nan") if found[-1] is None else float(found[-1])
