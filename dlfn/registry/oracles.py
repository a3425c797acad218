"""Values and gradients of an op against its definition, and against PyTorch, which nobody here wrote."""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.measures import relative_error
from dlfn.core import autodiff
from dlfn.registry.entry import Case, Entry
from dlfn.registry.gradients import tolerance

__all__ = ["check_values", "has_pytorch"]


def has_pytorch() -> bool:
    return importlib.util.find_spec("torch") is not None


def check_values(
    entry: Entry,
    case: Case,
    dtypes: Sequence[str] = ("float64",),
    lead: tuple[int, ...] = (3,),
    *,
    pytorch: bool = True,
) -> None:
    """Value and gradients against those of the definition in float64, at the inputs as each of ``dtypes`` rounds them:
    in float64 the value to 1e-12 of every entry, and the gradients to 1e-10 of the largest.

    In float64, where the case has an oracle and PyTorch is installed, against that too, entry by entry, unless
    ``pytorch`` is off, as for leading dimensions that the oracle does not take.

    Raises:
        AssertionError: where they differ, with the worst of it.
    """
    with jax.enable_x64(True):
        for dtype in dtypes:
            args = case.make(lead, dtype)
            at = [i for i, a in enumerate(args) if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)]
            f, point = functools.partial(_of_floats, entry, case, args, at), [args[i] for i in at]
            y = jax.eval_shape(f, *point)
            cotangent = jnp.asarray(np.random.default_rng((0, 1)).normal(size=y.shape), y.dtype)
            found, expected = _beside_the_definition(f, point, cotangent)
            assert found[0].dtype == dtype
            for name, got, right in zip(["value", *at], found, expected, strict=True):
                error, bound = relative_error(got, right), tolerance(dtype, case.terms(*args))
                if not (error is not None and error <= bound):
                    raise AssertionError(
                        f"{entry.op.name}, {case.name}, {dtype}, {name}: relative error {error}, bound {bound:.1e}"
                    )
            if dtype == "float64":  # two formulas of one value agree more closely than gradients that are sums
                np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-13)
                if pytorch and case.oracle is not None and has_pytorch():
                    _check_against_pytorch(case, args, at, cotangent, *found)


def _of_floats(entry: Entry, case: Case, args: Sequence[Any], at: list[int], *moving: Any) -> Any:
    full = list(args)
    for i, value in zip(at, moving, strict=True):
        full[i] = value
    y = entry.op(*full, **case.static)
    return jnp.concatenate([leaf.reshape(-1) for leaf in y]) if isinstance(y, tuple) else y


@functools.partial(jax.jit, static_argnums=0)  # in one program, as compilation takes longer than all else
def _beside_the_definition(f: Any, point: list[Any], cotangent: Any) -> Any:
    def value_and_cotangents(f: Any, point: list[Any], cotangent: Any) -> list[Any]:
        y, back = jax.vjp(f, *point)
        return [y, *back(cotangent)]

    exact = [x.astype("float64") for x in point]
    return (
        value_and_cotangents(f, point, cotangent),
        value_and_cotangents(autodiff(f), exact, cotangent.astype("float64")),
    )


def _check_against_pytorch(
    case: Case, args: Sequence[Any], at: list[int], cotangent: Any, value: Any, *gradients: Any
) -> None:
    torch = importlib.import_module("torch")
    tensors = [torch.tensor(np.asarray(a), requires_grad=i in at) for i, a in enumerate(args) if a is not None]
    theirs = case.oracle(torch, *tensors, **case.static)  # pyright: ignore[reportOptionalCall]
    theirs = torch.cat([leaf.reshape(-1) for leaf in theirs]) if isinstance(theirs, tuple) else theirs
    theirs.backward(torch.tensor(np.asarray(cotangent)))
    for ours, tensor in zip(gradients, [t for t in tensors if t.requires_grad], strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
