"""Where in a ``shard_map`` a value goes wrong: its body runs once more, and every equation in it is looked at."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.describing import inside
from dlfn.check.measures import QUICK
from dlfn.check.origins import Origin, Value, judge
from dlfn.check.plan import Step, is_inexact
from dlfn.core import jaxprs
from dlfn.core.entering import ENTERED, Found, Place, Visitor, enter
from dlfn.core.tracked import derivative_of

__all__ = ["born_inside"]


def born_inside(step: Step, values: Sequence[Value], kind: str, path: tuple[str, ...]) -> Origin | None:
    """The origin of the first nan, or inf, of those that equations in the body of a ``shard_map`` make; None where no
    equation makes any, as where an operand brought it."""

    def visit(place: Place, operands: list[Any]) -> Any:
        outs = jaxprs.bind(place.eqn, operands)
        return outs, (list(map(jnp.asarray, operands)), outs, _born(kind, operands, outs))

    visitor = Visitor(lambda eqn: eqn.primitive.name not in ENTERED, visit)
    run = jax.jit(lambda *operands: enter(visitor, step.eqn, list(operands), ())[1], compiler_options=QUICK)
    for found in run(*(value.narrow for value in values)):
        born = np.asarray(found.value[2]) & np.asarray(found.reached)
        if born.any():
            at = tuple(int(i) for i in np.argwhere(born)[0])
            return _origin(step, found, at, any(value.backward for value in values), path)
    return None


def _born(kind: str, operands: Sequence[Any], outs: Sequence[Any]) -> Any:
    def wrong(x: Any) -> Any:
        return jnp.any(jnp.isnan(x) if kind == "nan" else ~jnp.isfinite(x)) if is_inexact(x.dtype) else False

    before, after = (_any(map(wrong, xs)) for xs in (map(jnp.asarray, operands), outs))
    return jnp.logical_not(before) & after


def _any(flags: Any) -> Any:
    return sum(flags, start=jnp.bool_(False)) > 0


def _origin(step: Step, found: Found, at: tuple[int, ...], backward: bool, path: tuple[str, ...]) -> Origin | None:
    def there(x: Any) -> Value:
        # Of what does not vary over a mesh there is one copy.
        return Value(jnp.asarray(np.asarray(x)[tuple(min(i, n - 1) for i, n in zip(at, x.shape))]), backward=backward)

    eqn = found.place.eqn
    lines = tuple(dict.fromkeys(filter(None, (found.place.line, *step.lines))))
    inner = Step(eqn, (), (), lines, step.path, derivative_of(eqn), None)
    operands, outs, _ = found.value
    results = [there(y) for y in outs]
    judge(inner, [there(x) for x in operands], results, (*path, inside(found, at)))
    return next((y.bad for y in results if y.bad is not None), None)
