"""Functions whose value or gradient goes wrong, each first in the line that its name marks, and what dlfn.why says."""

import jax
import jax.numpy as jnp
from jax import lax

import dlfn

__all__ = [
    "FOUND", "ROWS", "X", "log_of_softmax", "masked_row", "rule_of_custom_vjp", "scan_step", "where_sqrt",
]  # fmt: skip

ROWS = jnp.array([[1.0, 2.0], [-jnp.inf, -jnp.inf]])
X = jnp.array([0.0, 1.0, 4.0])


def where_sqrt(x):
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))  # where_sqrt


def where_log(x):
    return jnp.sum(jnp.where(x > 0, jnp.log(x), 0.0))  # where_log


def where_division(x):
    return jnp.sum(jnp.where(x > 0, jnp.sin(x) / x, 1.0))  # where_division


def norm_at_zero(x):
    return jnp.linalg.norm(x)  # norm_at_zero


def masked_row(scores):
    return jnp.sum(jax.nn.softmax(scores, axis=-1))  # masked_row


def zero_times_inf_mask(x, mask):
    scores = x + (1 - mask) * -jnp.inf  # zero_times_inf_mask
    return jnp.sum(jax.nn.softmax(scores))


def exp_overflow(x):
    return jnp.log(jnp.sum(jnp.exp(x)))  # exp_overflow


def log_of_softmax(x):
    weights = jnp.exp(x - jnp.max(x))  # log_of_softmax
    return jnp.log(weights / jnp.sum(weights))[1]


def std_of_constant_rows(x):
    return jnp.sum(jnp.std(x, axis=-1))  # std_of_constant_rows


def arccos_at_one(x):
    return jnp.arccos(x)  # arccos_at_one


def arccosh_below_one(x):
    return jnp.arccosh(x)  # arccosh_below_one


def power_at_zero(x):
    return jnp.sum(x**0.5)  # power_at_zero


def atan2_at_zero(y, x):
    return jnp.arctan2(y, x)  # atan2_at_zero


def scan_step(x):
    def step(carry, divisor):
        return carry + 1 / divisor, None  # scan_step

    return lax.scan(step, 0.0, x)[0]


def one_pass_variance(x):
    return jnp.mean(x * x) - jnp.mean(x) ** 2  # one_pass_variance


def one_minus_cosine(x):
    return 1 - jnp.cos(x)  # one_minus_cosine


def slope_of_tanh(x):
    return jnp.sum(1 - jnp.tanh(x) ** 2)  # slope_of_tanh


def equal_eigenvalues(a):
    return jnp.sum(jnp.linalg.eigh(a)[1])  # equal_eigenvalues


def cosine_of_zero_vector(a, b):
    return jnp.vdot(a, b) / (jnp.sqrt(jnp.vdot(a, a)) * jnp.sqrt(jnp.vdot(b, b)))  # cosine_of_zero_vector


def attention_in_float16(q):
    scores = jnp.einsum("qd,kd->qk", q, q)  # attention_in_float16
    return jnp.sum(jax.nn.softmax(scores / 16, axis=-1)).astype(jnp.float32)


def loss_scale(x):
    error = x.astype(jnp.float16)
    return jnp.mean(error) * jnp.float16(60000) * 2  # loss_scale


def dead_relu(x):
    return jnp.sum(jax.nn.relu(x - 10))  # dead_relu


def saturated_sigmoid(x):
    return jnp.sum(jax.nn.sigmoid(x + 100))  # saturated_sigmoid


def underflow_in_float16(x):
    weights = (x * 1e-9).astype(jnp.float16)  # underflow_in_float16
    return jnp.log(jnp.sum(weights)).astype(jnp.float32)


def not_positive_definite(a):
    return jnp.sum(jnp.linalg.cholesky(a))  # not_positive_definite


def xlogy_by_hand(p):
    return jnp.sum(p * jnp.log(p))  # xlogy_by_hand


@jax.custom_vjp
def custom_log(x):
    return jnp.log(x)


def custom_log_backward(x, dy):
    slope = 1 / (x - 1)  # rule_of_custom_vjp
    return (dy * slope,)


custom_log.defvjp(lambda x: (jnp.log(x), x), custom_log_backward)


def rule_of_custom_vjp(x):
    return jnp.sum(jax.vmap(custom_log)(x))


@jax.custom_jvp
def linear_log(x):
    return jnp.log(x)


@linear_log.defjvp
def linear_log_rule(primals, tangents):
    return linear_log(*primals), tangents[0] / (primals[0] - 1)  # rule_of_custom_jvp


def rule_of_custom_jvp(x):
    return jnp.sum(linear_log(x))


@dlfn.Op
def bad_op(x):
    return x * x


@bad_op.def_forward
def bad_forward(x):
    return x * x, x


@bad_op.def_backward
def bad_backward(x, dy):
    return (2 * dy * (x * x / x),)  # backward_of_an_op


def backward_of_an_op(x):
    return jnp.sum(bad_op(x))


FOUND = [
    (where_sqrt, (X,), "nan", "0 × inf in the backward pass of sqrt; a where behind it guards the value and not"),
    (where_log, (X,), "nan", "0 / 0 in the backward pass of log; a where behind it guards the value and not"),
    (where_division, (X,), "nan", "in the backward pass of div; a where behind it"),
    (norm_at_zero, (jnp.zeros(3),), "inf", "the derivative of sqrt is infinite there: 0.5 / 0"),
    (masked_row, (ROWS,), "nan", "-inf − -inf, as in a row that is masked throughout"),
    (zero_times_inf_mask, (X, jnp.array([1.0, 0.0, 1.0])), "nan", "0 × -inf"),
    (exp_overflow, (X + 100,), "inf", "overflow: exp of 100 exceeds 3.4e+38, the largest float32"),
    (log_of_softmax, (jnp.array([200.0, 0.0]),), "zero", "underflow: exp of -200 is rounded to 0"),
    (std_of_constant_rows, (jnp.ones((2, 3)),), "inf", "the derivative of sqrt is infinite there"),
    (arccos_at_one, (1.0,), "inf", "the derivative of acos is infinite there"),
    (arccosh_below_one, (0.5,), "nan", "acosh of 0.5 is not a real number"),
    (power_at_zero, (X,), "inf", "is infinite"),
    (atan2_at_zero, (0.0, 0.0), "nan", "0 / 0 in the backward pass of atan2"),
    (scan_step, (jnp.array([2.0, 1.0, 0.0]),), "inf", "1 / 0 is infinite"),
    (one_pass_variance, (3000 + jnp.arange(5.0) / 100,), "lossy", "cancellation in 9000120 − 9000120"),
    (one_minus_cosine, (1e-3,), "lossy", "cancellation in 1 − 0.9999995"),
    (slope_of_tanh, (jnp.array([6.0, 7.0]),), "lossy", "the relative error grows"),
    (equal_eigenvalues, (jnp.eye(2),), "inf", "the derivative of eigh is infinite there: integer_pow of 0"),
    (cosine_of_zero_vector, (jnp.zeros(3), jnp.ones(3)), "nan", "0 / 0"),
    (attention_in_float16, (jnp.full((2, 4), 200, jnp.float16),), "inf", "exceeds 6.55e+04, the largest float16"),
    (loss_scale, (X,), "inf", "overflow: "),
    (dead_relu, (X,), "dead", "no cotangent passes: a where, or the kink of an activation"),
    (saturated_sigmoid, (X,), "dead", "no cotangent passes logistic"),
    (underflow_in_float16, (X,), "zero", "underflow: "),
    (not_positive_definite, (-jnp.eye(2),), "nan", "cholesky of a matrix that is not positive definite"),
    (xlogy_by_hand, (X / 5,), "inf", "log of 0 is infinite"),
    (rule_of_custom_vjp, (X + 1,), "inf", "1 / 0 is infinite"),
    (rule_of_custom_jvp, (X + 1,), "inf", "1 / 0 is infinite"),
    (backward_of_an_op, (X,), "nan", "0 / 0"),
]
