"""What a function's values say of numbers that are called its gradient, at a kink too."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlfn.check.probes import size

__all__ = ["is_convention"]

_DIRECTIONS, _STEP, _FLOAT64 = 7, 1e-4, np.finfo(np.float64)


def is_convention(
    loss: Callable[[list[Any]], Any],
    point: Sequence[Any],
    gradients: Sequence[Any],
    *,
    kinks: bool = True,
    seed: int = 0,
) -> bool:
    r"""Whether numbers can be called the gradient of a function at a point, by the values of the function alone.

    Where the function has a kink, many numbers can: any for which :math:`u \cdot g` lies between the two one-sided
    slopes along :math:`u`, in six random directions and in that in which all entries grow alike, as ties stay ties
    there. An even split among ties and all to the first of them do so; all to each of them does not, and nor does an
    even split that is 1 % off. Where there is no kink the two slopes are one, and the numbers have to be that.

    Slopes are taken at steps of 1e-4 of each array's largest entry, and of 1e-4, and extrapolated to 0. Steps that
    leave the domain or cross another kink are left out, and if all do, the answer is no.

    Args:
        loss: a function of the list of arrays; one number. Kinks whose signs differ in a sum hide each other, so that a
            function of many numbers should be asked about number by number.
        point: arrays in float64.
        gradients: what is to be judged, one for each of the arrays.
        kinks: False to accept no convention, but only what is the slope where there is no kink.
        seed: that of the directions.

    >>> import numpy as np
    >>> ties = [np.array([1.0, 1.0, 0.0])]
    >>> largest = lambda point: np.max(point[0])
    >>> [is_convention(largest, ties, [np.array(g)]) for g in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])]
    [True, False]
    """
    rng = np.random.default_rng([seed, 3])
    point = [np.asarray(x, np.float64) for x in point]
    here, judged = float(loss(point)), False
    for scales in ([size(x) for x in point], [1.0] * len(point)):
        for k in range(_DIRECTIONS):
            drawn = [np.ones(x.shape) if k == 0 else rng.normal(size=x.shape) for x in point]
            u = [scale * v for scale, v in zip(scales, drawn, strict=True)]
            slope = sum(float(np.sum(np.where(np.isfinite(x), g * v, 0))) for x, g, v in zip(point, gradients, u))
            low, high, error = _slopes(loss, point, u, here)
            if not error < 1e-3 * max(abs(low), abs(high), abs(slope), abs(here)):
                continue
            judged = True
            if not low - error <= slope <= high + error or (not kinks and high - low > 2 * error):
                return False
    return judged


def _slopes(loss: Callable[[list[Any]], Any], point: Any, u: Any, here: float) -> tuple[float, float, float]:
    """The smaller and the larger one-sided slope along u, and a bound on their errors, which may not be finite."""

    def at(step: float) -> float:
        return float(loss([np.where(np.isfinite(x), x + step * v, x) for x, v in zip(point, u, strict=True)]))

    found, error = [], 0.0
    with np.errstate(all="ignore"):
        for h in (-_STEP, _STEP):
            ends = [at(h), at(h / 2), at(h / 4)]
            coarse, middle, fine = (2**i * (end - here) / h for i, end in enumerate(ends))
            # The errors of one-sided slopes are of first order in the step: two of them leave one of second order.
            far, near = 2 * middle - coarse, 2 * fine - middle
            rounding = (64 * _FLOAT64.eps * max(map(abs, [*ends, here])) + _FLOAT64.tiny) / _STEP
            found.append((4 * near - far) / 3)
            error = max(error, abs(near - far) + 1e-7 * abs(near) + rounding)
    return min(found), max(found), error if np.isfinite([*found, error]).all() else np.inf
