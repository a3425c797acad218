"""Log-densities beyond what the sweeps can cover, distributions against scipy, and tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import dlfn
from dlfn import ops
from dlfn.probability import (
    Bernoulli,
    Binomial,
    Exponential,
    Normal,
    Poisson,
    Uniform,
    bayes,
    conditional,
    independent,
    marginal,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

DISTRIBUTIONS = {
    "bernoulli": (lambda: Bernoulli(0.3), st.bernoulli(0.3), [0, 1]),
    "bernoulli logits": (lambda: Bernoulli(logits=-2.0), st.bernoulli(1 / (1 + np.exp(2.0))), [0, 1]),
    "binomial": (lambda: Binomial(12, 0.3), st.binom(12, 0.3), list(range(13))),
    "binomial logits": (lambda: Binomial(12, logits=1.0), st.binom(12, 1 / (1 + np.exp(-1.0))), list(range(13))),
    "poisson": (lambda: Poisson(3.5), st.poisson(3.5), list(range(20))),
    "normal": (lambda: Normal(1.0, 2.0), st.norm(1.0, 2.0), [-30.0, 0.0, 1.0, 9.0]),
    "uniform": (lambda: Uniform(-1.0, 3.0), st.uniform(-1.0, 4.0), [-1.0, 0.0, 3.0]),
    "exponential": (lambda: Exponential(2.0), st.expon(scale=0.5), [0.0, 0.1, 30.0]),
}
CONTINUOUS = [name for name in DISTRIBUTIONS if name in ("normal", "uniform", "exponential")]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_log_prob_and_moments_against_scipy(name, x64):
    make, theirs, points = DISTRIBUTIONS[name]
    ours = make()
    log = theirs.logpmf if hasattr(theirs.dist, "pmf") else theirs.logpdf
    np.testing.assert_allclose(ours.log_prob(jnp.asarray(points)), log(points), rtol=1e-10)
    np.testing.assert_allclose([ours.mean, ours.variance], theirs.stats("mv"), rtol=1e-12)
    assert ours.log_prob(jnp.asarray([-1e3])).tolist() == [-np.inf] or name == "normal"


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if "logits" not in name])
def test_samples_have_the_moments(name):
    """Within five standard errors, of the variance too."""
    make, theirs, _ = DISTRIBUTIONS[name]
    ours = make()
    x = np.asarray(jax.jit(lambda d, key: d.sample(key, (5, 4000)))(ours, jax.random.key(0)), np.float64)
    assert x.shape == (5, 4000)
    mean, variance, kurtosis = (float(m) for m in theirs.stats("mvk"))
    assert abs(x.mean() - mean) < 5 * np.sqrt(variance / x.size)
    assert abs(x.var() - variance) < 5 * variance * np.sqrt((kurtosis + 2) / x.size) + 1e-6


@pytest.mark.parametrize("name", CONTINUOUS)
def test_reparameterised_gradients_of_samples(name, x64):
    """∂x/∂θ = -(∂F/∂θ) / f(x), F being scipy's distribution function, by its finite differences."""
    make, family, at = {
        "normal": (Normal, st.norm, [1.0, 2.0]),
        "uniform": (Uniform, lambda a, b: st.uniform(a, b - a), [-1.0, 3.0]),
        "exponential": (Exponential, lambda rate: st.expon(scale=1 / rate), [2.0]),
    }[name]
    key = jax.random.key(1)

    def draws(*parameters):
        return make(*parameters).sample(key, (6,))

    x = np.asarray(draws(*at))
    slopes = jax.jacrev(draws, tuple(range(len(at))))(*at)
    for i, slope in enumerate(slopes):
        above, below = ([*at[:i], at[i] + h, *at[i + 1 :]] for h in (1e-6, -1e-6))
        expected = -(family(*above).cdf(x) - family(*below).cdf(x)) / 2e-6 / family(*at).pdf(x)
        np.testing.assert_allclose(slope, expected, rtol=1e-7, atol=1e-8)
    walked = dlfn.backprop(lambda *p: jnp.sum(draws(*p)), tuple(range(len(at))))(*at)
    np.testing.assert_allclose(walked, [slope.sum() for slope in slopes], rtol=1e-12)


@pytest.mark.parametrize("n", [50, 10**4, 10**6, 10**9])
def test_large_counts_keep_their_digits(n, x64):
    """Against mpmath: three log-gammas would leave 1e-7 of n = 1e9."""
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 40
    p = 0.3
    ks = [0, 1, n // 100, int(n * p), int(n * p + 3 * (n * p) ** 0.5), n - 1, n]

    def exact(k, minus):
        ways = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
        return float(ways + k * mp.log(minus) + (n - k) * mp.log1p(-minus))

    np.testing.assert_allclose(
        ops.binomial_log_prob(jnp.array(ks), n, p), [exact(k, mp.mpf(p)) for k in ks], rtol=1e-11, atol=1e-11
    )
    z = -2.0
    ours = ops.binomial_log_prob(jnp.array(ks), n, logits=z)
    np.testing.assert_allclose(ours, [exact(k, 1 / (1 + mp.exp(2))) for k in ks], rtol=1e-11, atol=1e-11)
    rate = n * p
    expected = [float(k * mp.log(rate) - rate - mp.loggamma(k + 1)) for k in ks]
    np.testing.assert_allclose(ops.poisson_log_prob(jnp.array(ks), rate), expected, rtol=1e-11, atol=1e-11)


def test_large_counts_in_float32():
    """Integers above 2^24 are no float32: they are subtracted before they become one."""
    n = 2**30 + 1
    y = ops.binomial_log_prob(jnp.array([n - 1]), jnp.array([n]), 1 - 2.0**-20)
    p = 1 - 2.0**-20
    np.testing.assert_allclose(y, np.log(n) + (n - 1) * np.log(p) + np.log1p(-p), rtol=1e-6)


def test_counts_may_be_floats_and_booleans():
    np.testing.assert_allclose(ops.poisson_log_prob(jnp.array([2.0]), 3.0), ops.poisson_log_prob(jnp.array([2]), 3.0))
    np.testing.assert_allclose(
        ops.bernoulli_log_prob(jnp.array([True, False]), 0.25), jnp.log(jnp.array([0.25, 0.75])), rtol=1e-6
    )
    answers = jnp.array([True, False])
    np.testing.assert_allclose(ops.binomial_log_prob(answers, 3, 0.25), st.binom(3, 0.25).logpmf([1, 0]), rtol=1e-6)
    np.testing.assert_allclose(ops.poisson_log_prob(answers, 2.0), st.poisson(2).logpmf([1, 0]), rtol=1e-6)
    counts, trials = jnp.array([2.0, 2.5]), jnp.array(4)
    of_counts = jax.jit(lambda counts: ops.binomial_log_prob(counts, trials, 0.5))
    np.testing.assert_allclose(of_counts(counts), [np.log(6 / 16), -np.inf], rtol=1e-6)
    assert jax.jit(jax.grad(lambda k: of_counts(k).sum()))(counts[:1]).tolist() == [0.0]


UNDER_JIT = {
    "scale": (lambda s: ops.normal_log_prob(1.0, 0.0, s), [-1.0, 0.0, np.inf]),
    "rate": (lambda r: ops.exponential_log_prob(1.0, r), [-1.0, 0.0, np.inf]),
    "high": (lambda b: ops.uniform_log_prob(1.0, 2.0, b), [1.0, 2.0]),
    "probs": (lambda p: ops.bernoulli_log_prob(1, p), [-0.1, 1.1]),
    "probs of what is impossible": (lambda p: ops.bernoulli_log_prob(2, p), [1.2]),
    "logits of what is impossible": (lambda z: ops.bernoulli_log_prob(2, logits=z), [np.nan]),
    "probs of trials": (lambda p: ops.binomial_log_prob(0, 3, p), [-0.1, 1.1]),
    "probs of impossible counts": (lambda p: ops.binomial_log_prob(4, 3, p), [1.2]),
    "expected": (lambda r: ops.poisson_log_prob(0, r), [-1.0, np.inf]),
    "expected of impossible counts": (lambda r: ops.poisson_log_prob(-1, r), [-1.0]),
}


@pytest.mark.parametrize("name", UNDER_JIT)
def test_no_distribution_is_nan_under_jit(name):
    f, values = UNDER_JIT[name]
    for value in values:
        y, slope = jax.jit(jax.value_and_grad(f))(value)
        assert np.isnan(y), value
        assert np.isnan(slope), value


@pytest.mark.parametrize(
    "f",
    [ops.bernoulli_log_prob, lambda x, p: ops.binomial_log_prob(x, 3, p), ops.poisson_log_prob],
    ids=["bernoulli", "binomial", "poisson"],
)
def test_nan_is_no_count(f):
    assert np.isnan(jax.jit(jax.value_and_grad(f, 1))(jnp.nan, 0.5)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_samples_in_half_types_are_those_of_float32_rounded(dtype):
    """Drawn in their own precision they would be biased, and of the tails there would be none."""
    makers = (
        Normal,
        Uniform,
        lambda _, rate: Exponential(rate),
        lambda p, _: Bernoulli(p),
        lambda z, _: Bernoulli(logits=z),
    )
    half = jnp.asarray([0.003, 2.0], dtype)
    for make in makers:
        draws = make(*half).sample(jax.random.key(0), (1000,))
        wide = make(*half.astype(jnp.float32)).sample(jax.random.key(0), (1000,))
        assert draws.dtype == (wide.dtype if wide.dtype == jnp.int32 else dtype)
        np.testing.assert_array_equal(draws, wide.astype(draws.dtype))


def test_counts_that_their_dtype_cannot_hold(refused, x64):
    trials = jnp.asarray([2**40], jnp.int64)
    counts = Binomial(trials, 0.5).sample(jax.random.key(0))
    assert counts.dtype == trials.dtype
    assert abs(int(counts[0]) - 2**39) < 10 * 2**19
    with jax.enable_x64(False):
        refused(lambda: Poisson(3e9).sample(jax.random.key(0)), ["Poisson: rate is 3e+09", "counts"])
    assert Poisson(1e9).sample(jax.random.key(0)) > 0


def test_numbers_may_be_written_without_a_point():
    assert Normal(0, 1).log_prob(3) == Normal(0.0, 1.0).log_prob(3.0)
    assert Uniform(0, 4).log_prob(3) == Uniform(0.0, 4.0).log_prob(3.0)
    assert Exponential(1).log_prob(3) == Exponential(1.0).log_prob(3.0)


MISTAKES = {
    "scale": (lambda: Normal(0.0, jnp.array([1.0, -2.0])), ["Normal: scale", "-2", "positive"]),
    "ends": (lambda: Uniform(1.0, 1.0), ["Uniform: high - low is 0", "positive"]),
    "far ends": (lambda: Uniform(-3e38, 3e38), ["Uniform: high - low is inf", "finite"]),
    "rate": (lambda: Exponential(0.0), ["Exponential: rate", "positive"]),
    "probs": (lambda: Bernoulli(1.5), ["Bernoulli: probs", "1.5", "logits="]),
    "both": (lambda: Bernoulli(0.5, 0.0), ["either probs or logits", "both"]),
    "trials": (lambda: Binomial(-1, 0.5), ["Binomial: trials", "-1", "0 or more"]),
    "expected": (lambda: Poisson(-0.5), ["Poisson: rate", "-0.5", "0 or more"]),
    "shapes": (lambda: Normal(jnp.zeros(3), jnp.ones(2)), ["Normal: loc is float32[3]", "broadcast"]),
    "op": (lambda: ops.normal_log_prob(0.0, 0.0, -1.0), ["normal_log_prob: scale", "-1", "positive"]),
    "under grad": (lambda: jax.grad(ops.exponential_log_prob, 1)(1.0, -1.0), ["rate is -1", "positive"]),
    "ends under grad": (lambda: jax.grad(ops.uniform_log_prob, 1)(1.0, 2.0, 1.0), ["high - low is -1"]),
    "counts": (lambda: Poisson(2.0).log_prob(1.5), ["poisson_log_prob: counts", "1.5", "whole number"]),
    "integers": (lambda: ops.poisson_log_prob(1, jnp.array([2])), ["poisson_log_prob: rate", "astype"]),
    "number": (lambda: ops.normal_log_prob(0.0, 0, 1.0), ["normal_log_prob: loc", "floating point", "1.0, not 1"]),
    "infinite": (lambda: Exponential(np.inf), ["Exponential: rate is inf", "finite"]),
    "op's shapes": (lambda: ops.exponential_log_prob(jnp.zeros(3), jnp.ones(2)), ["x is float32[3]", "broadcast"]),
    "sum": (lambda: conditional([[0.5, 0.6], [0.1, 0.1]], 0), ["conditional: the sum of joint", "is 1.3"]),
    "negative": (lambda: marginal([1.5, -0.5], 0), ["marginal: joint", "-0.5"]),
    "axis": (lambda: marginal([[0.5, 0.5]], "c", names="ab"), ["marginal: axes", "'c'", "'a', 'b'"]),
    "misspelt": (lambda: marginal([[0.5, 0.5]], "rani", names=("rain", "sun")), ["marginal: axes", "'rani'", "'rain'"]),
    "twice": (lambda: marginal([[0.5, 0.5]], (0, -2)), ["marginal: axes is (0, -2)", "twice"]),
    "no axis": (lambda: marginal([[0.5, 0.5]], 0.5), ["marginal: axes", "0.5"]),
    "names": (lambda: conditional([[0.5, 0.5]], 0, names="a"), ["conditional: names", "2 different names"]),
    "likelihood": (lambda: bayes([0.5, 0.5], [0.5, 0.5]), ["bayes", "likelihood is float32[2]", "first"]),
    "row": (lambda: bayes([0.5, 0.5], [[0.5, 0.5], [0.5, 0.4]]), ["bayes: the sum of likelihood along axis 1", "0.9"]),
    "empty": (lambda: independent(jnp.zeros((0,))), ["independent: the sum of joint", "is 0"]),
    "rtol": (lambda: independent([1.0], rtol=-1.0), ["rtol"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name, refused):
    refused(*MISTAKES[name])


def test_distributions_are_pytrees():
    """jit, vmap and grad go through the parameters, and a gradient is checked as little as a tracer is."""
    batch = Normal(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))
    assert batch.batch_shape == (3,)
    assert batch.sample(jax.random.key(0), (2,)).shape == (2, 3)
    mapped = jax.vmap(lambda d: d.log_prob(1.0))(batch)
    np.testing.assert_allclose(mapped, batch.log_prob(1.0), rtol=1e-6)
    score = jax.jit(jax.grad(lambda d: d.log_prob(0.0).sum()))(batch)
    assert isinstance(score, Normal)
    np.testing.assert_allclose(score.scale, [-1.0, -1 / 2, -1 / 3], rtol=1e-6)
    assert [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(batch)[0]] == [
        ".loc", ".scale"
    ]  # fmt: skip


def test_maximum_likelihood_by_the_scores(x64):
    """At the maximum the scores' sums vanish: the sample's moments are the estimates."""
    x = jnp.array([0.5, 1.5, 4.0, 2.0])
    score = jax.grad(lambda d: d.log_prob(x).sum())(Normal(jnp.mean(x), jnp.std(x)))
    np.testing.assert_allclose([score.loc, score.scale], 0.0, atol=1e-12)
    k = jnp.array([0, 3, 1, 4])
    np.testing.assert_allclose(jax.grad(lambda d: d.log_prob(k).sum())(Poisson(2.0)).rate, 0.0, atol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda d: d.log_prob(x).sum())(Exponential(0.5)).rate, 0.0, atol=1e-12)
    binomial = jax.grad(lambda p: Binomial(4, p).log_prob(k).sum())(0.5)
    np.testing.assert_allclose(binomial, 0.0, atol=1e-12)


def test_conditional_marginal_and_bayes_agree(x64):
    """P(A|B) of a random table, by its definition and by Bayes' rule."""
    joint = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(24)).reshape(2, 3, 4))
    a_given_b = conditional(marginal(joint, "ab", names="abc"), "b", names="ab")
    np.testing.assert_allclose(a_given_b.sum(0), 1.0, rtol=1e-14)
    b_given_a = conditional(marginal(joint, (0, 1)), 0)
    np.testing.assert_allclose(b_given_a.sum(1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(bayes(marginal(joint, 0), b_given_a), a_given_b, rtol=1e-14)
    bc_given_a = conditional(joint, "a", names="abc")
    np.testing.assert_allclose(bayes(marginal(joint, "a", names="abc"), bc_given_a), conditional(joint, (1, 2)))
    np.testing.assert_allclose(marginal(joint, ["c"], names="abc"), joint.sum((0, 1)))
    np.testing.assert_allclose(conditional(joint, -1), joint / joint.sum((0, 1)))
    np.testing.assert_allclose(marginal(joint, np.int64(1)), marginal(joint, 1))


def test_independence(x64):
    """P(A ∩ B) = P(A) P(B)."""
    rng = np.random.default_rng(1)
    a, b, c = (rng.dirichlet(np.ones(n)) for n in (2, 3, 4))
    joint = jnp.asarray(np.einsum("a,b,c->abc", a, b, c))
    np.testing.assert_allclose(joint[:, :, 0] / c[0], np.outer(a, b))
    assert jax.jit(independent)(joint)
    assert independent(joint.astype(jnp.float32))
    for dtype in ("bfloat16", "float16"):
        half, dependent = joint.astype(dtype), jnp.asarray([[0.3, 0.2], [0.2, 0.3]], dtype)
        assert independent(half / half.sum())
        assert not independent(dependent)
    moved = joint.at[0, 0, 0].add(1e-6).at[1, 0, 0].add(-1e-6)
    assert not independent(moved)
    assert independent(moved, rtol=1e-2)
    # Any two of them are independent, and all three are not: the third is decided by the others.
    xor = jnp.zeros((2, 2, 2)).at[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]].set(0.25)
    assert all(independent(marginal(xor, pair)) for pair in ((0, 1), (0, 2), (1, 2)))
    assert not independent(xor)


def test_conditions_of_probability_zero():
    """nan there and nowhere else, in the gradient neither."""
    joint = jnp.array([[0.5, 0.0], [0.5, 0.0]])
    np.testing.assert_array_equal(conditional(joint, 1), [[0.5, np.nan], [0.5, np.nan]])
    slope = jax.grad(lambda p: conditional(p, 1)[0, 0])(joint)
    np.testing.assert_allclose(slope, [[0.5, 0.0], [-0.5, 0.0]])
    np.testing.assert_array_equal(bayes([1.0, 0.0], [[1.0, 0.0], [0.5, 0.5]]), [[1.0, np.nan], [0.0, np.nan]])
