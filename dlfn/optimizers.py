r"""Optimisers as the documents write them, compatible with optax.

Each returns an :class:`optax.GradientTransformation`: it goes into ``optax.chain`` beside optax's clipping, and takes
optax's schedules where a learning rate is asked for. A negative rate, and a decay that never forgets, are an
:class:`~dlfn.InputError`. With :math:`g_t` the gradient at step t = 1, 2, …, the update that
is added to the parameters is :math:`-\eta_t u_t`.

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
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlfn.core import InputError

__all__ = ["State", "adagrad", "adam", "adamw", "momentum", "rmsprop", "sgd"]

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


def momentum(learning_rate: Rate, mu: float = 0.9, *, ema: bool = False) -> optax.GradientTransformation:
    r"""Momentum, :math:`v_t = \mu v_{t-1} + g_t`; with ``ema``, :math:`v_t = \mu v_{t-1} + (1 - \mu) g_t`.

    Source: 002 section 14.2; 004 optimization for ``ema``.

    >>> optimizer = momentum(1.0, 0.5)
    >>> state = optimizer.init(jnp.zeros(1))
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jnp.ones(1), state)
    >>> print(updates)
    [-1.75]
    """
    _check("momentum", learning_rate, mu=mu)

    def step(g, t, v):
        v = mu * v + ((1 - mu) * g if ema else g)
        return {"v": v}, v

    return _optimizer(learning_rate, {"v": 0.0}, step)


def adam(
    learning_rate: Rate, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    r"""Adam, :math:`\theta_{t+1} = \theta_t - \eta\, \hat m_t / (\sqrt{\hat v_t} + \epsilon)`.

    Source: 002 section 14.3; Kingma & Ba 2015, *Adam: A Method for Stochastic Optimization*.

    >>> optimizer = adam(0.1)
    >>> updates, _ = optimizer.update(jnp.array([4.0, -1e-3]), optimizer.init(jnp.zeros(2)))
    >>> print(updates)  # the first step has the length of the learning rate, whatever the gradient's
    [-0.1      0.099999]
    """
    return adamw(learning_rate, beta1, beta2, eps, weight_decay=0.0)


def adamw(
    learning_rate: Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    *,
    weight_decay: float = 1e-4,
    mask: Callable[[Any], Any] | Any = None,
) -> optax.GradientTransformation:
    r"""Adam with decoupled weight decay, :math:`u = \hat m / (\sqrt{\hat v} + \epsilon) + \lambda \theta`.

    Args:
        mask: as in :func:`optax.adamw`: a tree of bools like the parameters (True where weights decay), or a function
            of the parameters that returns one; None for all.

    Source: 002 section 14.3; Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*.
    """
    _check("adam", learning_rate, beta1=beta1, beta2=beta2)

    def step(g, t, m, v):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / _one_minus_power(beta1, t)
        v_hat = v / _one_minus_power(beta2, t)
        return {"m": m, "v": v}, m_hat / (jnp.sqrt(v_hat) + eps)

    rule = _optimizer(None if weight_decay else learning_rate, {"m": 0.0, "v": 0.0}, step)
    if not weight_decay:
        return rule
    return optax.chain(rule, optax.add_decayed_weights(weight_decay, mask), optax.scale_by_learning_rate(learning_rate))


def rmsprop(
    learning_rate: Rate, beta: float = 0.9, eps: float = 1e-8, *, eps_in_sqrt: bool = False
) -> optax.GradientTransformation:
    r"""RMSprop, :math:`u = g / (\sqrt{v} + \epsilon)` with :math:`v_t = \beta v_{t-1} + (1 - \beta) g_t^2`.

    With ``eps_in_sqrt`` :math:`u = g / \sqrt{v + \epsilon}`, as optax has it.

    Source: 004 optimization; Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.
    """
    _check("rmsprop", learning_rate, beta=beta)

    def step(g, t, v):
        v = beta * v + (1 - beta) * g * g
        return {"v": v}, _by_root(g, v, eps, eps_in_sqrt)

    return _optimizer(learning_rate, {"v": 0.0}, step)


def adagrad(
    learning_rate: Rate, eps: float = 1e-8, *, start: float = 0.0, eps_in_sqrt: bool = False
) -> optax.GradientTransformation:
    r"""AdaGrad, :math:`u = g / (\sqrt{v} + \epsilon)` with :math:`v_t = v_{t-1} + g_t^2`, :math:`v_0` = ``start``.

    optax starts at 0.1 and has :math:`u = g / \sqrt{v + \epsilon}`: ``start=0.1, eps=1e-7, eps_in_sqrt=True``.

    Source: 004 optimization; Duchi et al. 2011, *Adaptive Subgradient Methods*.
    """
    _check("adagrad", learning_rate)

    def step(g, t, v):
        v = v + g * g
        return {"v": v}, _by_root(g, v, eps, eps_in_sqrt)

    return _optimizer(learning_rate, {"v": start}, step)


def _one_minus_power(beta, t):
    """1 - beta**t. The difference would lose four of float32's seven digits at t = 1 and beta = 0.999."""
    return -jnp.expm1(t * math.log(beta)) if beta else jnp.ones_like(t)


def _by_root(g, v, eps, eps_in_sqrt):
    return g / jnp.sqrt(v + eps) if eps_in_sqrt else g / (jnp.sqrt(v) + eps)


def _check(optimizer: str, learning_rate: Rate, **decays: float) -> None:
    if not (callable(learning_rate) or _is_from_0_to(math.inf, learning_rate)):
        raise InputError(
            f"{optimizer}: learning_rate is {learning_rate!r}, and must be a number that is 0 or more, or a schedule, "
            "a function of the steps taken"
        )
    for name, value in decays.items():
        if not _is_from_0_to(1, value):
            raise InputError(f"{optimizer}: {name} is {value!r}, and must be a number with 0 <= {name} < 1")


def _is_from_0_to(end: float, x: Any) -> bool:
    """Whether 0 <= x < end, or x is traced, as optax.inject_hyperparams makes numbers, and has no value yet."""
    if not isinstance(x, int | float | np.number | np.ndarray | jax.Array) or jnp.ndim(x):
        return False
    try:
        return bool(0 <= x < end)
    except jax.errors.ConcretizationTypeError:
        return True


def _optimizer(
    learning_rate: Rate, starts: dict[str, float], step: Callable[..., tuple[dict[str, Any], Any]]
) -> optax.GradientTransformation:
    """An optimiser from the rule of one leaf, ``step(g, t, **moments) -> (moments, u)``; without a learning rate it
    returns u itself."""

    def init(params: Any) -> State:
        moments = {name: jax.tree.map(lambda p, s=s: jnp.full_like(p, s), params) for name, s in starts.items()}
        return State(jnp.zeros((), jnp.int32), moments)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, State]:
        del params
        t = jnp.asarray(optax.safe_increment(state.steps))
        rate: Any = learning_rate(state.steps) if callable(learning_rate) else learning_rate
        scale = 1.0 if rate is None else -rate
        leaves, tree = jax.tree.flatten(updates)
        old = {name: tree.flatten_up_to(moment) for name, moment in state.moments.items()}
        results = [step(g, t.astype(g.dtype), **{name: old[name][i] for name in old}) for i, g in enumerate(leaves)]
        moments = {name: tree.unflatten([new[name] for new, _ in results]) for name in old}
        changes = tree.unflatten([jnp.asarray(scale, u.dtype) * u for _, u in results])
        return changes, State(t, moments)

    return optax.GradientTransformation(init, update)
