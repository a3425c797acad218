"""Information theory against SciPy and scikit-learn, its identities, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

import dlfn
from dlfn import ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-14)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("base", [None, 2, 10.0])
def test_against_scipy(rng, base, x64):
    p, q = rng.dirichlet(np.ones(6), size=(2, 4))
    p[0, :2], q[0, 0] = 0, 0  # 0 log 0 = 0
    p, q = (x / x.sum(-1, keepdims=True) for x in (p, q))
    close(ops.entropy(p, base=base), scipy.stats.entropy(p, base=base, axis=-1))
    close(ops.relative_entropy(p, q, base=base), scipy.stats.entropy(p, q, base=base, axis=-1))
    close(ops.relative_entropy(p, q, reduction="none"), scipy.special.rel_entr(p, q))
    close(ops.cross_entropy(p, q), -scipy.special.xlogy(p, q).sum(-1))
    close(ops.entropy_from_logits(jnp.log(p), base=base), scipy.stats.entropy(p, base=base, axis=-1))
    close(ops.entropy(p.T, axis=0, base=base), scipy.stats.entropy(p, base=base, axis=-1))


def test_mutual_information_against_scikit_learn(rng, x64):
    counts = rng.integers(0, 9, (4, 5))
    counts[1, 2] = 0
    expected = sklearn.metrics.mutual_info_score(None, None, contingency=counts)
    close(ops.mutual_information(counts / counts.sum()), expected)


def test_three_forms_of_mutual_information_agree(rng, x64):
    joint = rng.dirichlet(np.ones(12), size=3).reshape(3, 3, 4)
    joint[0, 1] = 0
    joint /= joint.sum((-2, -1), keepdims=True)

    def of_divergence(joint):
        product = jnp.sum(joint, -1, keepdims=True) * jnp.sum(joint, -2, keepdims=True)
        return ops.relative_entropy(joint, product, axis=(-2, -1))

    def by_x(joint):
        return ops.entropy(jnp.sum(joint, -1)) - ops.conditional_entropy(joint)

    def by_y(joint):
        return ops.entropy(jnp.sum(joint, -2)) - ops.conditional_entropy(jnp.swapaxes(joint, -2, -1))

    def by_joint(joint):
        return ops.entropy(jnp.sum(joint, -1)) + ops.entropy(jnp.sum(joint, -2)) - ops.entropy(joint, axis=(-2, -1))

    @jax.jit
    def all_of(joint):
        forms = ops.mutual_information, of_divergence, by_x, by_y, by_joint
        return [(f(joint), jax.grad(lambda joint, f=f: f(joint).sum())(joint)) for f in forms]

    (information, gradient), *others = all_of(joint)
    for value, slopes in others:
        close(value, information)
        close(slopes[1:], gradient[1:])  # that of the first has infinities, of which not all differences are


def test_independent_variables_share_nothing(rng, x64):
    p, q = rng.dirichlet(np.ones(4), size=2)
    close(ops.mutual_information(np.outer(p, q)), 0.0)
    close(ops.conditional_entropy(np.outer(p, q)), ops.entropy(p))


def test_divergence_is_not_negative_and_0_of_equals(rng, x64):
    p, q = rng.dirichlet(np.ones(5), size=(2, 200))
    assert (ops.relative_entropy(p, q) > 0).all()
    assert (ops.relative_entropy(p, p) == 0).all()
    close(ops.cross_entropy(p, q), ops.entropy(p) + ops.relative_entropy(p, q))


def test_curvature_at_equals_is_the_fisher_information(x64):
    p = jnp.array([0.2, 0.3, 0.5])
    close(jax.hessian(ops.relative_entropy, argnums=1)(p, p), jnp.diag(1 / p))
    close(jax.hessian(ops.relative_entropy)(p, p), jnp.diag(1 / p))


def test_slopes_at_0_are_one_sided_limits(x64):
    """The difference quotient from the right grows, or has a limit, as the slope says."""
    h = 1e-9
    joint = jnp.array([[0.25, 0.5, 0.0], [0.25, 0.0, 0.0]])
    for op, at in ((ops.entropy, None), (ops.conditional_entropy, (0, 2)), (ops.mutual_information, (0, 2))):
        if at is None:
            assert jax.grad(op)(jnp.array([1.0, 0.0]))[1] == np.inf
            continue
        slope = jax.grad(op)(joint)[at]
        moved = jax.jit(op)(joint.at[at].add(h)) - op(joint)
        close(slope, moved / h, rtol=1e-5, atol=1e-6)


def test_from_logits_everything_is_finite():
    z = jnp.array([[1.0, -jnp.inf, -2.0], [-jnp.inf] * 3, [jnp.inf, 0.0, 0.0], [80.0, -80.0, 0.0], [3e38, -3e38, 0.0]])
    assert np.isfinite(ops.entropy_from_logits(z)).all()
    assert np.isfinite(jax.grad(lambda z: ops.entropy_from_logits(z).sum())(z)).all()


GOOD = jnp.array([0.5, 0.25, 0.25])
BAD = jnp.array([0.5, 0.5, 0.5])
REFUSED = [
    (lambda: ops.entropy(BAD), ["entropy: the sum of p along axis 0 is 1.5", "divide p by it"]),
    (lambda: ops.entropy(jnp.array([1.5, -0.5])), ["entropy: p has the entry -0.5", "ops.softmax(p)"]),
    (lambda: ops.entropy(jnp.array([jnp.nan, 1.0])), ["entropy: p has the entry nan"]),
    (lambda: ops.cross_entropy(GOOD, BAD), ["cross_entropy: the sum of q along axis 0 is 1.5"]),
    (lambda: ops.relative_entropy(BAD, GOOD), ["relative_entropy: the sum of p along axis 0 is 1.5"]),
    (lambda: ops.mutual_information(jnp.ones((2, 2))), ["mutual_information: the sum of joint along axis (0, 1) is 4"]),
    (lambda: ops.conditional_entropy(GOOD), ["conditional_entropy: joint is float32[3]", "two axes (..., X, Y)"]),
    (lambda: jax.grad(ops.entropy)(BAD), ["entropy: the sum of p along axis 0 is 1.5"]),
    (lambda: ops.entropy(GOOD, base=1), ["entropy: base is 1"]),
    (lambda: ops.entropy(GOOD, axis=1), ["entropy: axis is 1"]),
    (lambda: ops.entropy(jnp.float32(1)), ["entropy: p is the scalar"]),
    (lambda: ops.entropy_from_logits(GOOD, axis=None), ["entropy_from_logits: axis is None"]),
    (lambda: ops.relative_entropy(GOOD, GOOD, reduction="mean"), ["relative_entropy: reduction is 'mean'"]),
    (lambda: ops.relative_entropy(GOOD, GOOD - 0.5, reduction="none"), ["relative_entropy: q has the entry -0.25"]),
    (
        lambda: ops.entropy_from_logits(jnp.zeros((2, 0))),
        ["entropy_from_logits: logits is float32[2, 0]", "no outcomes"],
    ),
    (lambda: jax.jit(ops.entropy)(jnp.zeros(0)), ["entropy: p is float32[0]", "no outcomes"]),
    (lambda: ops.relative_entropy(GOOD, GOOD[:2]), ["relative_entropy: p is float32[3] and q is float32[2]"]),
]


@pytest.mark.parametrize(("mistake", "parts"), REFUSED)
def test_mistakes_are_explained(mistake, parts, refused):
    refused(mistake, parts)


def test_inside_jit_the_formula_is_evaluated_as_it_stands():
    for f in (jax.jit(ops.entropy), jax.vmap(ops.entropy)):
        close(f(BAD[None]), [-1.5 * np.log(0.5)], rtol=1e-6)
    close(jax.jit(jax.grad(ops.entropy))(BAD), -np.log(0.5) - 1, rtol=1e-6)
    none, negative = jnp.array([1.0, 0.0]), jnp.array([1.5, -0.5])
    assert np.isnan(jax.jit(ops.entropy)(negative))
    for f in (ops.cross_entropy, ops.relative_entropy):
        assert np.isnan(jax.jit(f)(none, negative))
        assert np.isnan(jax.jit(f)(none, jnp.array([1.0, jnp.nan])))
    close(dlfn.backprop(ops.entropy)(BAD), -np.log(0.5) - 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rounded_probabilities_are_probabilities(dtype, rng):
    p = jnp.asarray(rng.dirichlet(np.ones(1000), size=8), dtype)
    assert np.isfinite(ops.entropy(p)).all()
