r"""Optimisers as the documents write them, compatible with optax.

Each returns an :class:`optax.GradientTransformation`: it goes into ``optax.chain`` beside optax's clipping, and takes
optax's schedules where a learning rate is asked for. Every number may be traced, as under ``vmap`` and
:func:`optax.inject_hyperparams`; a known one that makes no sense, such as a negative rate or a decay that never
forgets, is an :class:`~dlfn.InputError`. With :math:`g_t` the gradient at step t = 1, 2, …, the update that is added to
the parameters is :math:`-\eta_t u_t`.

================ ======================================================================================================
sgd              :math:`u = g` (002 section 14.1)
momentum         :math:`v_t = \mu v_{t-1} + g_t` (002 section 14.2), or with ``ema``
                 :math:`v_t = \mu v_{t-1} + (1 - \mu) g_t` (004); :math:`u = v`. Two methods: the first takes steps that
                 are :math:`1 / (1 - \mu)` times as long.
adam             :math:`m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t`, :math:`v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2`,
                 :math:`u = \hat m / (\sqrt{\hat v} + \epsilon)` with :math:`\hat m = m_t / (1 - \beta_1^t)`,
                 :math:`\hat v = v_t / (1 - \beta_2^t)` (002 section 14.3)
adamw            :math:`u_{\mathrm{adam}} + \lambda \theta`: the decay is not divided by :math:`\sqrt{\hat v}`, and so
                 is not the gradient of an L2 penalty; for SGD the two are the same (Loshchilov & Hutter 2019)
rmsprop          :math:`v_t = \beta v_{t-1} + (1 - \beta) g_t^2`, :math:`u = g / (\sqrt{v} + \epsilon)` (004)
adagrad          :math:`v_t = v_{t-1} + g_t^2`, :math:`u = g / (\sqrt{v} + \epsilon)` (004)
================ ======================================================================================================

optax puts ε under the root in RMSprop and AdaGrad, and starts AdaGrad's sum at 0.1: ``eps_in_sqrt`` and ``start``.

The moments of half-precision parameters are float32. The update is computed in float32 too, or in float64 if anything
is, and rounded once: to the parameters' dtype, or to the gradient's where ``update`` gets no parameters. First moments
take less memory in another dtype, by ``mu_dtype`` and ``accumulator_dtype`` as in optax. Second moments have no such
option: a change by a thousandth, as of Adam's, is lost in bfloat16. A state keeps its dtypes, whatever those of the
gradient, as ``lax.scan`` asks for.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlfn.core import InputError

__all__ = ["State", "adagrad", "adam", "adamw", "momentum", "rmsprop", "sgd"]

Number = Any  # of Python, NumPy or JAX, traced or not
Rate = Any  # a number or a schedule, a function of the steps taken


class State(NamedTuple):
    """Steps taken, and the running moments of the gradient by name, each of the parameters' tree."""

    steps: jax.Array
    moments: dict[str, Any]


def sgd(learning_rate: Rate) -> optax.GradientTransformation:
    r"""Gradient descent, :math:`\theta_{t+1} = \theta_t - \eta g_t`.

    Source: 002 section 14.1, 003 section 6, 001 section 2.

    >>> optimizer = sgd(0.1)
    >>> updates, _ = optimizer.update(jnp.array([1.0, -2.0]), optimizer.init(jnp.zeros(2)))
    >>> print(updates)
    [-0.1  0.2]
    """
    _check("sgd", learning_rate)
    return _optimizer(learning_rate, {}, lambda g, t: ({}, g))


def momentum(
    learning_rate: Rate, mu: Number = 0.9, *, ema: bool = False, accumulator_dtype: Any = None
) -> optax.GradientTransformation:
    r"""Momentum, :math:`v_t = \mu v_{t-1} + g_t`; with ``ema``, :math:`v_t = \mu v_{t-1} + (1 - \mu) g_t`.

    Args:
        accumulator_dtype: of v between steps; None for the parameters', or float32 if that is half precision.

    Source: 002 section 14.2; 004 optimization for ``ema``.

    >>> optimizer = momentum(1.0, 0.5)
    >>> state = optimizer.init(jnp.zeros(1))
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jnp.ones(1), state)
    >>> print(updates)
    [-1.75]
    """
    _check("momentum", learning_rate, {"mu": mu}, dtypes={"accumulator_dtype": accumulator_dtype})

    def step(g, t, v):
        kept, new = _numbers(g, mu, 1 - mu if ema else 1)
        v = kept * v + new * g
        return {"v": v}, v

    return _optimizer(learning_rate, {"v": _Moment(dtype=accumulator_dtype)}, step)


def adam(
    learning_rate: Rate, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-8, *, mu_dtype: Any = None
) -> optax.GradientTransformation:
    r"""Adam, :math:`\theta_{t+1} = \theta_t - \eta\, \hat m_t / (\sqrt{\hat v_t} + \epsilon)`.

    Args:
        mu_dtype: of m between steps; None for the parameters', or float32 if that is half precision.

    Source: 002 section 14.3; Kingma & Ba 2015, *Adam: A Method for Stochastic Optimization*.

    >>> optimizer = adam(0.1)
    >>> updates, _ = optimizer.update(jnp.array([4.0, -1e-3]), optimizer.init(jnp.zeros(2)))
    >>> print(updates)  # the first step has the length of the learning rate, whatever the gradient's
    [-0.1      0.099999]

    Here each of several models has a learning rate of its own:

    >>> def first_step(rate, params, gradient):
    ...     optimizer = adam(rate)
    ...     return optimizer.update(gradient, optimizer.init(params))[0]
    >>> print(jax.vmap(first_step)(jnp.array([0.1, 0.2]), jnp.zeros((2, 1)), jnp.ones((2, 1))).ravel())
    [-0.1 -0.2]
    """
    _check("adam", learning_rate, {"beta1": beta1, "beta2": beta2}, {"eps": eps}, {"mu_dtype": mu_dtype})
    return _adam(learning_rate, beta1, beta2, eps, mu_dtype)


def adamw(
    learning_rate: Rate,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    *,
    weight_decay: Number = 1e-4,
    mask: Callable[[Any], Any] | Any = None,
    mu_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Adam with decoupled weight decay, :math:`u = \hat m / (\sqrt{\hat v} + \epsilon) + \lambda \theta`.

    Args:
        mask: as in :func:`optax.adamw`: a tree of bools like the parameters (True where weights decay), or a function
            of the parameters that returns one; None for all.
        mu_dtype: as in :func:`adam`.

    Source: 002 section 14.3; Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*.
    """
    numbers = {"eps": eps, "weight_decay": weight_decay}
    _check("adamw", learning_rate, {"beta1": beta1, "beta2": beta2}, numbers, {"mu_dtype": mu_dtype})
    return _adam(learning_rate, beta1, beta2, eps, mu_dtype, _Decay(weight_decay, True if mask is None else mask))


def rmsprop(
    learning_rate: Rate, beta: Number = 0.9, eps: Number = 1e-8, *, eps_in_sqrt: bool = False
) -> optax.GradientTransformation:
    r"""RMSprop, :math:`u = g / (\sqrt{v} + \epsilon)` with :math:`v_t = \beta v_{t-1} + (1 - \beta) g_t^2`.

    With ``eps_in_sqrt`` :math:`u = g / \sqrt{v + \epsilon}`, as optax has it.

    Source: 004 optimization; Tieleman & Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5.
    """
    _check("rmsprop", learning_rate, {"beta": beta}, {"eps": eps})

    def step(g, t, v):
        kept, new = _numbers(g, beta, 1 - beta)
        v = kept * v + new * g * g
        return {"v": v}, _by_root(g, v, eps, eps_in_sqrt)

    return _optimizer(learning_rate, {"v": _Moment()}, step)


def adagrad(
    learning_rate: Rate, eps: Number = 1e-8, *, start: Number = 0.0, eps_in_sqrt: bool = False
) -> optax.GradientTransformation:
    r"""AdaGrad, :math:`u = g / (\sqrt{v} + \epsilon)` with :math:`v_t = v_{t-1} + g_t^2`, :math:`v_0` = ``start``.

    optax starts at 0.1 and has :math:`u = g / \sqrt{v + \epsilon}`: ``start=0.1, eps=1e-7, eps_in_sqrt=True``.

    Source: 004 optimization; Duchi, Hazan & Singer 2011, *Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization*.
    """
    _check("adagrad", learning_rate, {}, {"eps": eps, "start": start})

    def step(g, t, v):
        v = v + g * g
        return {"v": v}, _by_root(g, v, eps, eps_in_sqrt)

    return _optimizer(learning_rate, {"v": _Moment(start)}, step)


class _Moment(NamedTuple):
    """What a moment is before the first step, and its dtype: None for the parameters', or float32 if that is wider."""

    start: Number = 0.0
    dtype: Any = None


class _Decay(NamedTuple):
    """The weight of the parameters themselves in u, where the mask is True."""

    weight: Number
    mask: Any

    def where(self, params: Any) -> Any:
        if params is None:
            raise InputError("adamw: update needs the parameters that decay, as in update(gradient, state, params)")
        return jax.tree.broadcast(self.mask(params) if callable(self.mask) else self.mask, params)


def _adam(
    learning_rate: Rate, beta1: Number, beta2: Number, eps: Number, mu_dtype: Any, decay: _Decay | None = None
) -> optax.GradientTransformation:
    def step(g, t, m, v):
        (kept1, new1), (kept2, new2) = _numbers(g, beta1, 1 - beta1), _numbers(g, beta2, 1 - beta2)
        m = kept1 * m + new1 * g
        v = kept2 * v + new2 * g * g
        return {"m": m, "v": v}, _by_root(m / _one_minus_power(beta1, t), v / _one_minus_power(beta2, t), eps)

    return _optimizer(learning_rate, {"m": _Moment(dtype=mu_dtype), "v": _Moment()}, step, decay)


def _one_minus_power(beta, t):
    """1 - beta**t. The difference would lose four of float32's seven digits at t = 1 and beta = 0.999."""
    log = jnp.log1p(beta - 1) if isinstance(beta, jax.Array) else math.log(beta) if beta else -math.inf
    return -jnp.expm1(t * jnp.asarray(log, t.dtype))


def _by_root(u, v, eps, eps_in_sqrt=False):
    (eps,) = _numbers(u, eps)
    root = jnp.sqrt(v + eps) if eps_in_sqrt else jnp.sqrt(v) + eps
    # Without ε, which may be 0 and rounds to 0 in float16, a gradient of 0 has a root of 0.
    return u / jnp.where(root == 0, jnp.ones_like(root), root)


def _numbers(like: jax.Array, *numbers: Number) -> list[jax.Array]:
    return [jnp.asarray(number, like.dtype) for number in numbers]


def _wide(*dtypes: Any) -> Any:
    """The widest of the dtypes and float32."""
    return max(jnp.dtype(jnp.float32), *map(jnp.dtype, dtypes), key=lambda dtype: dtype.itemsize)


def _check(
    optimizer: str,
    learning_rate: Rate,
    decays: Mapping[str, Number] = {},
    numbers: Mapping[str, Number] = {},
    dtypes: Mapping[str, Any] = {},
) -> None:
    if not (callable(learning_rate) or _is_from_0_to(math.inf, learning_rate)):
        raise InputError(
            f"{optimizer}: learning_rate is {learning_rate!r}, and must be a number that is 0 or more, or a schedule, "
            "a function of the steps taken"
        )
    for name, value in numbers.items():
        if not _is_from_0_to(math.inf, value):
            raise InputError(f"{optimizer}: {name} is {value!r}, and must be a number that is 0 or more")
    for name, value in decays.items():
        # First, as one that rounds to 1 should be told so.
        if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4:
            raise InputError(
                f"{optimizer}: {name} is of dtype {value.dtype}, which has not the digits for a number next to 1, and "
                "must be float32 or wider; in optax.inject_hyperparams by hyperparam_dtype=jnp.float32"
            )
        if not _is_from_0_to(1, value):
            raise InputError(f"{optimizer}: {name} is {value!r}, and must be a number with 0 <= {name} < 1")
    for name, value in dtypes.items():
        if not (value is None or _is_floating(value)):
            raise InputError(f"{optimizer}: {name} is {value!r}, and must be a floating-point dtype or None")


def _is_floating(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        return False


def _is_from_0_to(end: float, x: Any) -> bool:
    """Whether 0 <= x < end, or x is traced, as optax.inject_hyperparams makes numbers, and has no value yet."""
    if not isinstance(x, int | float | np.number | np.ndarray | jax.Array) or jnp.ndim(x):
        return False
    try:
        return bool(0 <= x < end)
    except jax.errors.ConcretizationTypeError:
        return True


def _optimizer(
    learning_rate: Rate,
    moments: Mapping[str, _Moment],
    step: Callable[..., tuple[dict[str, jax.Array], jax.Array]],
    decay: _Decay | None = None,
) -> optax.GradientTransformation:
    """An optimiser from the rule of one leaf, ``step(g, t, **moments) -> (moments, u)``, in one dtype for all."""

    def init(params: Any) -> State:
        def begin(moment: _Moment, p: Any) -> jax.Array:
            dtype = _wide(jnp.result_type(p)) if moment.dtype is None else moment.dtype
            return jnp.full_like(p, moment.start, dtype=dtype)

        begun = {name: jax.tree.map(functools.partial(begin, moment), params) for name, moment in moments.items()}
        return State(jnp.zeros((), jnp.int32), begun)

    def update_leaf(scale: Number, t: jax.Array, g: Any, p: Any, decays: bool, held: dict[str, Any]) -> tuple[Any, Any]:
        if g is None:  # as of what is no array, in Equinox
            return held, None
        dtype = _wide(*map(jnp.result_type, (g, p, *held.values())))
        new, u = step(jnp.asarray(g, dtype), t.astype(dtype), **{name: x.astype(dtype) for name, x in held.items()})
        if decay and decays:
            u = u + jnp.asarray(decay.weight, dtype) * jnp.asarray(p, dtype)
        change = (jnp.asarray(scale, dtype) * u).astype(jnp.result_type(p))
        return {name: x.astype(held[name].dtype) for name, x in new.items()}, change

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, State]:
        t = jnp.asarray(optax.safe_increment(state.steps))
        rate: Any = learning_rate(state.steps) if callable(learning_rate) else learning_rate
        gradients, tree = jax.tree.flatten(updates, is_leaf=lambda g: g is None)
        parameters = gradients if params is None else tree.flatten_up_to(params)
        decays = tree.flatten_up_to(decay.where(params)) if decay else [False] * len(gradients)
        held = {name: tree.flatten_up_to(moment) for name, moment in state.moments.items()}
        results = [
            update_leaf(-rate, t, g, p, decays, {name: leaves[i] for name, leaves in held.items()})
            for i, (g, p, decays) in enumerate(zip(gradients, parameters, decays))
        ]
        new = {name: tree.unflatten([moments[name] for moments, _ in results]) for name in held}
        return tree.unflatten([change for _, change in results]), State(t, new)

    return optax.GradientTransformation(init, update)
