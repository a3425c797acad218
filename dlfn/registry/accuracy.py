"""Errors of first and second derivatives of the elementwise ops, and of what else computes them, in ULP."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn.registry import ulp
from dlfn.registry.entry import Case, Entry

__all__ = [
    "COLUMNS",
    "DTYPES",
    "SAMPLE",
    "Worst",
    "chunk",
    "chunks",
    "columns",
    "judge",
    "named",
    "neighbours",
    "sample",
]

# Who computes the derivatives: dlfn's hand rules, JAX of jax.nn's function, JAX of the same formula with the most
# accurate functions that XLA has, and PyTorch.
COLUMNS = ("dlfn", "jax.nn", "HIGHEST", "PyTorch")
DTYPES = ("bfloat16", "float16", "float32")
# Of float32's bit patterns, a sample takes one in so many. It is odd, so that every last bit is met.
SAMPLE = 4099

Derivative = Callable[[np.ndarray], np.ndarray]


def named(entry: Entry, case: Case) -> str:
    """The name of a row: the op's, and the case's where there are several."""
    return entry.op.name if len(entry.cases) == 1 else f"{entry.op.name}, {case.name}"


# The formulas of jax.nn with XLA's HIGHEST, for those that use a function which has it; erf has none.
_exp, _expm1, _log1p, _logistic, _tanh = (
    functools.partial(f, accuracy=lax.AccuracyMode.HIGHEST)
    for f in (lax.exp, lax.expm1, lax.log1p, lax.logistic, lax.tanh)
)


def _elu(x: Any, alpha: float = 1.0) -> Any:
    return jnp.where(x > 0, x, alpha * _expm1(jnp.where(x > 0, 0.0, x)))


def _softplus(x: Any) -> Any:
    return jnp.maximum(x, 0) + _log1p(_exp(-jnp.abs(x)))


def _gelu(x: Any, *, approximate: bool) -> Any:
    return x * (0.5 * (1.0 + _tanh(float(np.sqrt(2 / np.pi)) * (x + 0.044715 * x**3))))


_HIGHEST: dict[str, Callable[..., Any]] = {
    "sigmoid": _logistic,
    "tanh": _tanh,
    "silu": lambda x: x * _logistic(x),
    "softplus": _softplus,
    "log_sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * _tanh(_softplus(x)),
    "gelu": _gelu,
    "elu": _elu,
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "celu": lambda x, alpha: jnp.maximum(x, 0.0) + alpha * _expm1(jnp.minimum(x, 0.0) / alpha),
}

# PyTorch's own functions, where an op's oracle is no such.
_TORCH: dict[str, Callable[..., Any]] = {
    "celu": lambda torch, x, alpha: torch.nn.functional.celu(x, alpha),
    "hard_sigmoid": lambda torch, x: torch.nn.functional.hardsigmoid(x),
    "softplus": lambda torch, x: torch.nn.functional.softplus(x),
}


def columns(entry: Entry, case: Case, order: int, torch: Any = None) -> dict[str, Derivative]:
    """What computes the derivative of an order, 1 or 2, by column; columns that do not exist are left out.

    >>> from dlfn.registry.all import entries
    >>> (relu,) = entries(["relu"])
    >>> columns(relu, relu.cases[0], 1)["dlfn"](np.array([-1, 2], np.float32)).tolist()
    [0.0, 1.0]
    """
    static = dict(case.static)
    functions = {
        "dlfn": entry.op,
        "jax.nn": next(f for bench in entry.benches if bench.name == case.name for f in bench.baselines.values()),
    }
    # The exact form of GELU is by erf.
    if entry.op.name in _HIGHEST and static.get("approximate", True):
        functions["HIGHEST"] = _HIGHEST[entry.op.name]
    found = {name: _by_jax(functools.partial(f, **static), order) for name, f in functions.items()}
    # PyTorch has no squareplus.
    if torch is not None and case.oracle is not None and entry.op.name != "squareplus":
        own = _TORCH.get(entry.op.name, case.oracle)
        found["PyTorch"] = _by_torch(torch, functools.partial(own, torch, **static), order)
    return found


def _by_jax(f: Callable[..., Any], order: int) -> Derivative:
    for _ in range(order - 1):
        f = functools.partial(_pulled_back, f)
    return ulp.derivative(f)


def _pulled_back(f: Callable[..., Any], x: Any) -> Any:
    y, pullback = jax.vjp(f, x)
    return pullback(jnp.ones_like(y))[0]


def _by_torch(torch: Any, f: Callable[..., Any], order: int) -> Derivative:
    def derivative(x: np.ndarray) -> np.ndarray:
        # NumPy's bfloat16 is unknown to PyTorch, and float32 holds all of its numbers.
        at = torch.from_numpy(x.astype(np.float32)).to(getattr(torch, x.dtype.name)).requires_grad_()
        y = f(at)
        for left in reversed(range(order)):
            if not y.requires_grad:  # the derivative of a constant
                return np.zeros(x.shape, x.dtype)
            (y,) = torch.autograd.grad(y.sum(), at, create_graph=left > 0)
        return y.detach().to(torch.float32).numpy().astype(x.dtype)

    return derivative


def chunks(dtype: str) -> int:
    """How many chunks hold all numbers of a dtype."""
    return -(-(1 << 8 * jnp.dtype(dtype).itemsize) // ulp.CHUNK)


def chunk(dtype: str, number: int) -> np.ndarray:
    """The numbers of a dtype, by their bit patterns, from the chunk of that number: no nans.

    >>> sum(len(chunk("bfloat16", i)) for i in range(chunks("bfloat16")))  # 254 of the patterns are nans
    65282
    """
    bits = 8 * jnp.dtype(dtype).itemsize
    start = number * ulp.CHUNK
    patterns = np.arange(start, min(start + ulp.CHUNK, 1 << bits), dtype=f"uint{bits}")
    return _numbers(patterns.view(jnp.dtype(dtype)))


def _numbers(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a signalling nan raises it
        return x[~np.isnan(x)]


def sample(case: Case) -> np.ndarray:
    """One in ``SAMPLE`` of the bit patterns of float32, and the dense sample of :func:`dlfn.registry.ulp.inputs`."""
    assert case.slope is not None
    bits = np.arange(0, 1 << 32, SAMPLE, dtype=np.uint32).view(np.float32)
    (dense,) = ulp.inputs("float32", case.slope, case.static)
    return np.unique(np.concatenate([_numbers(bits), dense]))


def neighbours(point: float, reach: int = 1 << 20) -> np.ndarray:
    """The float32 numbers next to a point, ``reach`` on either side by their bit patterns; none of infinity.

    >>> neighbours(1.0, 1).tolist()
    [0.9999999403953552, 1.0, 1.0000001192092896]
    """
    if not np.isfinite(point):
        return np.zeros(0, np.float32)
    at = int(np.float32(point).view(np.uint32))
    return _numbers(np.arange(max(at - reach, 0), min(at + reach + 1, 1 << 32), dtype=np.uint32).view(np.float32))


@dataclasses.dataclass
class Worst:
    """The largest error so far, in ULP, the input ``at`` which it is, of how many ``inputs``, and how many of them are
    ``off`` by more than the 4 ULP that dlfn's first derivatives in float32 are held to."""

    ulp: float = -1.0
    at: float = 0.0
    inputs: int = 0
    off: int = 0

    def update(self, x: np.ndarray, error: np.ndarray) -> None:
        """Takes in the errors at x, of which nan stands for points without a derivative."""
        self.inputs += int(np.sum(~np.isnan(error)))
        self.off += int(np.sum(error > ulp.BOUNDS["float32", np.inf]))
        if not np.all(np.isnan(error)) and error[worst := int(np.nanargmax(error))] > self.ulp:
            self.ulp, self.at = float(error[worst]), float(x[worst])


def judge(
    case: Case,
    order: int,
    rivals: dict[str, Derivative],
    x: np.ndarray,
    figures: dict[str, Worst],
    *,
    on_device: bool = False,
) -> None:
    """Takes the errors at the points x of those that compute the derivative of an order into their figures."""
    closed = case.slope if order == 1 else case.bend
    assert closed is not None
    exact = ulp.Exact(closed, x, case.static, on_device=on_device)
    for name, derivative in rivals.items():
        figures.setdefault(name, Worst()).update(x, np.asarray(exact.errors(derivative(x))))
