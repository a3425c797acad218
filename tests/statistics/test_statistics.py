"""Hypothesis tests against scipy.stats and mpmath, and runs compared."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import dlfn
from dlfn.statistics import chi_squared_test, compare_runs, permutation_test, welch_t_test, z_test
from dlfn.statistics._tails import chi_squared_tail, t_quantile, t_tail

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
A, B = RNG.normal(0.0, 1.0, 7), RNG.normal(0.8, 2.0, 9)
ALTERNATIVES = ["two-sided", "less", "greater"]


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_against_scipy(alternative, x64):
    z, p, df = z_test(A, 0.3, 1.5, alternative=alternative)
    expected = (A.mean() - 0.3) * np.sqrt(7) / 1.5
    theirs = {
        "two-sided": 2 * st.norm.sf(abs(expected)),
        "less": st.norm.cdf(expected),
        "greater": st.norm.sf(expected),
    }
    np.testing.assert_allclose([z, p], [expected, theirs[alternative]], rtol=1e-12)
    assert df is None

    theirs = st.ttest_ind(A, B, equal_var=False, alternative=alternative)
    np.testing.assert_allclose(
        welch_t_test(A, B, alternative=alternative), [theirs.statistic, theirs.pvalue, theirs.df], rtol=1e-10
    )

    a, b = A[:4], B[:5]

    def difference(a, b, axis):
        return a.mean(axis) - b.mean(axis)

    theirs = st.permutation_test((a, b), difference, n_resamples=9999, alternative=alternative, vectorized=True)
    ours = permutation_test(a, b, alternative=alternative)
    np.testing.assert_allclose(ours[:2], [theirs.statistic, theirs.pvalue], rtol=1e-10)


def test_chi_squared_against_scipy(x64):
    observed = [18, 22, 16, 25, 24, 15]
    theirs = st.chisquare(observed)
    np.testing.assert_allclose(chi_squared_test(observed), [theirs.statistic, theirs.pvalue, 5], rtol=1e-10)
    expected = [20.0, 20.0, 20.0, 30.0, 20.0, 10.0]
    theirs = st.chisquare(observed, expected, ddof=1)
    ours = chi_squared_test(observed, expected, ddof=1)
    np.testing.assert_allclose(ours, [theirs.statistic, theirs.pvalue, 4], rtol=1e-10)
    table = [[10, 20, 30], [25, 15, 5]]
    theirs = st.chi2_contingency(table, correction=False)
    np.testing.assert_allclose(chi_squared_test(table), [theirs.statistic, theirs.pvalue, theirs.dof], rtol=1e-10)


def test_tails_against_mpmath(x64):
    """From one degree of freedom to ten million, into the far tails, where jax.scipy has 1e-8 and scipy 1e-11."""
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 30

    def t(t, df):
        df, t = mp.mpf(df), mp.mpf(t)
        return mp.betainc(df / 2, mp.mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2

    cases = [(2e-6, 1), (1e4, 1), (0.7, 2), (3.0, 7), (30.0, 40), (1.0, 1000), (8.0, 1000)]
    ours = t_tail(jnp.array([float(x) for x, _ in cases]), jnp.array([float(df) for _, df in cases]))
    np.testing.assert_allclose(ours, [float(t(*case)) for case in cases], rtol=1e-12)
    np.testing.assert_allclose(t_tail(jnp.array([5.0]), jnp.array([1e12])), st.norm.sf(5.0), rtol=1e-9)

    cases = [(1e-8, 1), (0.5, 1), (200.0, 1), (0.1, 3), (80.0, 100), (5.05e5, 5e5)]
    ours = chi_squared_tail(jnp.array([x for x, _ in cases]), jnp.array([float(df) for _, df in cases]))
    exact = [float(mp.gammainc(mp.mpf(df) / 2, mp.mpf(x) / 2, regularized=True)) for x, df in cases]
    np.testing.assert_allclose(ours, exact, rtol=1e-12)
    below = chi_squared_tail(jnp.array(6321154.274380945), jnp.array(6337287.552312908))
    np.testing.assert_allclose(below, 1 - 2.87595719727919e-6, rtol=1e-13)  # where scipy 1.17 is off by 8e-9

    ends = t_tail(jnp.array([0.0, np.inf, -np.inf, np.nan]), jnp.array(3.0))
    np.testing.assert_allclose(ends, [0.5, 0.0, 1.0, np.nan], rtol=1e-14)
    np.testing.assert_allclose(chi_squared_tail(jnp.array([0.0, np.inf]), jnp.array(3.0)), [1.0, 0.0])
    df = jnp.array([1.0, 2.95, 40.0])
    np.testing.assert_allclose(t_quantile(0.005, df), st.t.isf(0.005, df), rtol=1e-10)


def test_tails_in_float32():
    t, df = np.float32([0.1, 3.0, 8.0]), np.float32([1.0, 30.0, 5000.0])
    np.testing.assert_allclose(t_tail(jnp.array(t), jnp.array(df)), st.t.sf(t, df), rtol=2e-5)
    np.testing.assert_allclose(
        chi_squared_tail(jnp.array(10 * t), jnp.array(df / 10 + 1)), st.chi2.sf(10 * t, df / 10 + 1), rtol=2e-5
    )


def test_tails_whose_squares_overflow():
    np.testing.assert_allclose(t_tail(jnp.array([1e12, 1e25]), jnp.array([2.0, 1.0])), [5e-25, 1 / np.pi / 1e25], 2e-5)


def test_under_jit_and_vmap(x64):
    """Leading dimensions are tests of their own."""
    a, b = RNG.normal(size=(3, 6)), RNG.normal(size=(3, 5))
    theirs = st.ttest_ind(a, b, axis=1, equal_var=False)
    theirs = theirs.statistic, theirs.pvalue, theirs.df
    np.testing.assert_allclose(jax.jit(welch_t_test)(a, b), theirs, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(jax.vmap(welch_t_test))(a, b), theirs, rtol=1e-10)
    z, p, _ = jax.jit(z_test)(a, jnp.array([0.0, 1.0, 2.0]), 1.0)
    np.testing.assert_allclose(z, (a.mean(1) - [0.0, 1.0, 2.0]) * np.sqrt(6), rtol=1e-12)
    np.testing.assert_allclose(p, 2 * st.norm.sf(abs(z)), rtol=1e-11)
    assert np.isnan(jax.jit(z_test)(a, 0.0, -1.0).p_value).all()
    for mistake in ([1, 2], [1.0, 3.0]), ([-1, 4], [1.0, 2.0]), ([-1, 4],), ([[0, 0], [1, 2]],):
        assert np.isnan(jax.jit(chi_squared_test)(*map(jnp.array, mistake)).p_value)


def test_samples_without_spread(x64):
    ones, twos = [0.1] * 3, [0.2] * 4
    t, p, _ = welch_t_test(ones, twos)
    assert (t, p) == (-np.inf, 0.0)
    assert welch_t_test(ones, twos, alternative="greater").p_value == 1.0
    assert np.isnan(welch_t_test(ones, ones)[:2]).all()
    far = np.array([1e8, 1e8 + 1, 1e8 + 2])
    np.testing.assert_allclose(welch_t_test(far, far + 3)[:2], st.ttest_ind([0, 1, 2], [3, 4, 5], equal_var=False))


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_squares_of_observations_that_no_float32_holds(size):
    a, b = (np.asarray(x * size, np.float32) for x in (A, B))
    theirs = st.ttest_ind(a.astype(np.float64), b.astype(np.float64), equal_var=False)
    np.testing.assert_allclose(welch_t_test(a, b), [theirs.statistic, theirs.pvalue, theirs.df], rtol=1e-4)


def test_p_values_are_uniform_where_the_hypothesis_holds():
    """Of 1,000 tests a share of about α rejects."""
    x = jax.random.normal(jax.random.key(0), (2, 1000, 8))
    a, b = x[0], 3 * x[1, :, :5]
    for result in jax.jit(lambda: (welch_t_test(a, b).p_value, z_test(a, 0.0, 1.0).p_value))():
        for alpha in (0.01, 0.05, 0.5):
            share = float(jnp.mean(result < alpha))
            assert abs(share - alpha) < 4 * math.sqrt(alpha * (1 - alpha) / 1000)


def test_drawn_permutations(x64):
    """Close to all of them, reproducible, and never 0."""
    a, b = A[:6], B[:6]
    every = permutation_test(a, b)
    drawn = permutation_test(a, b, permutations=900, key=jax.random.key(0))
    assert abs(float(every.p_value - drawn.p_value)) < 0.06
    assert drawn.p_value == permutation_test(a, b, permutations=900, key=jax.random.key(0)).p_value
    apart = permutation_test(A, A + 100.0, permutations=99, key=jax.random.key(1), alternative="less")
    np.testing.assert_allclose(apart.p_value, 1 / 100, rtol=1e-12)
    a, b = A[:4], B[:4]
    ratio = permutation_test(a, b, statistic=lambda a, b: jnp.std(a) / jnp.std(b))
    theirs = st.permutation_test((a, b), lambda a, b: np.std(a) / np.std(b), n_resamples=9999)
    np.testing.assert_allclose(ratio[:2], [theirs.statistic, theirs.pvalue], rtol=1e-10)


def test_ties_of_permutations_count():
    """Far from 0 in float32, where means of the same numbers in another order are rounded differently."""
    a = jnp.array([0.1, 0.2, 0.3]) + 100
    np.testing.assert_allclose(permutation_test(a, a).p_value, 1.0)


def test_permutations_of_observations_whose_sums_overflow():
    """One of 20 ways on either side, as for the same numbers in a smaller unit."""
    a, b = jnp.array([7.5, 7.2, 7.0]), jnp.array([2.5, 2.7, 3.0])
    for unit in (1.0, 1e37):
        np.testing.assert_allclose(permutation_test(a * unit, b * unit).p_value, 0.1, rtol=1e-6)


SAMPLES = {
    "plain": [1.0, 2.0, 4.0],
    "nan": [1.0, np.nan, 2.0],
    "inf": [1.0, np.inf, 2.0],
    "both infinities": [np.inf, -np.inf, 1.0],
    "constant": [2.0, 2.0, 2.0],
    "zeros": [0.0, 0.0, 0.0],
    "outlier": [1.0, 2.0, 1e30],
    "sum above the range": [1e38, 3e38, 2.5e38],
    "difference above the range": [-1e38, -3e38, -2.5e38],
    "tiny": [1e-36, 2e-36, 4e-36],
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy's, of what is tried here
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_hard_samples_against_scipy(alternative):
    """In float32: nan just where SciPy has it, and no p = 0 from what overflows on the way."""
    x = np.float32(list(SAMPLES.values()))
    a, b = np.repeat(x, len(x), axis=0), np.tile(x, (len(x), 1))
    theirs = st.ttest_ind(*np.float64([a, b]), axis=1, equal_var=False, alternative=alternative)
    for test in (welch_t_test, jax.jit(welch_t_test, static_argnames="alternative")):
        t, p, _ = test(a, b, alternative=alternative)
        np.testing.assert_allclose(p, theirs.pvalue, rtol=1e-4, atol=1e-30)
        np.testing.assert_allclose(np.arctan(t), np.arctan(theirs.statistic), atol=1e-5)
    means, stds = (np.float32(v) for v in np.meshgrid([0.0, 1.0, -2e38, np.inf, np.nan], [1.0, 1e38]))
    for mean, std in zip(means.ravel(), stds.ravel(), strict=True):
        z = np.mean(np.float64(x) - np.float64(mean), axis=1) * 3**0.5 / np.float64(std)
        tail = {"two-sided": 2 * st.norm.sf(abs(z)), "less": st.norm.cdf(z), "greater": st.norm.sf(z)}[alternative]
        for test in (z_test, jax.jit(z_test, static_argnames="alternative")):
            np.testing.assert_allclose(test(x, mean, std, alternative=alternative).p_value, tail, rtol=1e-4, atol=1e-30)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_counts_beyond_any_square():
    for counts in ([1e25, 2e25, 3e25], [[1e25, 2e25], [2e25, 3e25]], [0.0, 0.0, 5.0]):
        table = np.ndim(counts) == 2
        theirs = st.chi2_contingency(counts, correction=False) if table else st.chisquare(counts)
        ours = chi_squared_test(jnp.array(counts))
        np.testing.assert_allclose(ours[:2], theirs[:2], rtol=1e-5)
    for counts in ([1.0, np.nan, 2.0], [1.0, np.inf, 2.0], [[1.0, np.nan], [2.0, 3.0]]):
        assert np.isnan(jax.jit(chi_squared_test)(jnp.array(counts)).p_value)


TIES = {
    "outliers on both sides": ([1.0, 2.0, 3.0, 1e5], [1.5, 2.5, 3.5, -1e5]),
    "an outlier first": ([1e7, 1.0, 2.0, 3.0], [1.5, 2.5, 3.5, -1e7]),
    "an outlier on one side": ([1.0, 2.0, 3.0, 1e6], [1.5, 2.5, 3.5]),
    "the same outlier twice": ([1.0, 2.0, 3.0, 1e7], [1.5, 2.5, 3.5, 1e7]),
    "decimals": ([0.1, 0.3, 0.4], [0.2, 0.2, 0.5]),
    "integers": ([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 5.0]),
    "constant": ([1.0, 1.0], [1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize(("a", "b"), TIES.values(), ids=TIES)
def test_ties_in_float32_are_those_of_scipy(a, b):
    """In float64, whatever else is among the observations; and the ways without a tie are not taken for one."""

    def mean_difference(a, b, axis):
        return a.mean(axis) - b.mean(axis)

    for alternative in ALTERNATIVES:
        theirs = st.permutation_test((a, b), mean_difference, vectorized=True, alternative=alternative)
        ours = permutation_test(jnp.array(a), jnp.array(b), alternative=alternative)
        np.testing.assert_allclose(ours.p_value, theirs.pvalue, rtol=1e-6)


def test_permutations_under_jit_and_vmap():
    a, b = map(jnp.array, TIES["outliers on both sides"])
    p = jax.jit(jax.vmap(lambda a, b: permutation_test(a, b).p_value))(jnp.stack([a, a[::-1]]), jnp.stack([b, b + 2e5]))
    np.testing.assert_allclose(p, [16 / 35, permutation_test(a, b + 2e5).p_value], rtol=1e-6)
    # Of any statistic, and of a count, which nothing rounds.
    means = permutation_test(a, b, statistic=lambda a, b: jnp.mean(a) - jnp.mean(b))
    np.testing.assert_allclose(means.p_value, 16 / 35, rtol=1e-6)
    count = permutation_test([1.0, 2.0], [3.0, 4.0], statistic=lambda a, b: jnp.sum(a > 2), alternative="less")
    np.testing.assert_allclose(count.p_value, 1 / 6, rtol=1e-6)


def test_p_is_nan_where_a_permutation_is_not_known():
    for a, b in (([1.0, np.nan, 2.0], [2.0, 3.0, 2.0]), ([2.0, 3.0, 2.0], [1.0, np.nan, 2.0])):
        for alternative in ALTERNATIVES:
            assert np.isnan(permutation_test(a, b, alternative=alternative).p_value)
    skipping = permutation_test(a, b, statistic=lambda a, b: jnp.nanmean(a) - jnp.nanmean(b))
    assert (np.isfinite(skipping.statistic), np.isnan(skipping.p_value)) == (True, True)
    key = jax.random.key(0)
    assert np.isnan(permutation_test(np.append(A, np.nan), B, key=key, permutations=99).p_value)
    assert np.isnan(permutation_test([np.inf, 1.0], [-np.inf, np.inf]).p_value)
    # That of two equal observations is 0/0, the one observed is not.
    spread = permutation_test([1.0, 2.0], [1.0, 3.0], statistic=lambda a, b: jnp.std(a) / jnp.std(a))
    assert (spread.statistic, np.isnan(spread.p_value)) == (1.0, True)


def test_infinite_statistics_count():
    ratio = lambda a, b: jnp.var(a) / jnp.var(b)  # noqa: E731
    four, equal = [1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]
    for alternative, p in (("two-sided", 2 / 70), ("greater", 1 / 70), ("less", 1.0)):
        ours = permutation_test(four, equal, statistic=ratio, alternative=alternative)
        np.testing.assert_allclose(ours.p_value, p, rtol=1e-6)
    for infinity, p in ((np.inf, {"greater": 0.5, "less": 1.0}), (-np.inf, {"greater": 1.0, "less": 0.5})):
        for alternative in ("greater", "less"):
            ours = permutation_test([1.0, 2.0, 3.0, infinity], equal, alternative=alternative)
            assert (ours.statistic, ours.p_value) == (infinity, p[alternative])


def write(folder, values):
    folder.mkdir()
    lines = [{"step": i, "train/loss": 1.0, **({} if v == "" else {"test/loss": v})} for i, v in enumerate(values)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_compare_runs_by_their_folders(tmp_path):
    a = [write(tmp_path / f"a{i}", [9.0, x, ""]) for i, x in enumerate([0.52, 0.55, 0.50, 0.54])]
    b = [write(tmp_path / f"b{i}", [9.0, x]) for i, x in enumerate([0.47, 0.49, 0.46, 0.50])]
    found = compare_runs(a, b)
    theirs = st.ttest_ind([0.47, 0.49, 0.46, 0.50], [0.52, 0.55, 0.50, 0.54], equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    np.testing.assert_allclose([found.p_value, *found.interval], [theirs.pvalue, low, high], rtol=1e-10)
    assert found.significant
    assert "b is lower by 0.0475, 95 % confidence interval" in str(found)
    assert "is significant" in str(found)
    same = compare_runs(a, [str(run) for run in a], test="permutation")
    assert not same.significant
    assert "The means are equal. The difference is not significant: p = 1, and not" in str(same)
    assert not compare_runs(a, b, alpha=1e-3).significant


def test_few_permutations_say_little_and_give_no_interval():
    """Welch's need not agree with their verdict."""
    apart = [0.1, 0.2, 0.3], [10.1, 10.2, 10.3, 10.4, 10.5]
    found = compare_runs(*apart, test="permutation")
    np.testing.assert_allclose(found.p_value, 2 / math.comb(8, 3))
    assert found.interval is None
    assert "b is higher by 10.1. The difference is significant: p = 0.036 < 0.05 (permutation test)." in str(found)
    found = compare_runs(apart[0], apart[1][:3], test="permutation")
    assert not found.significant
    np.testing.assert_allclose(found.p_value, 0.1)


def test_compare_runs_that_are_all_equal():
    for test in ("welch", "permutation"):
        found = compare_runs([0.5, 0.5], [0.5, 0.5, 0.5], test=test)
        assert not found.significant
        assert "no difference" in str(found)


MISTAKES = {
    "no data": (lambda: z_test([], 0.0, 1.0), ["z_test: x is float32[0]", "no observations"]),
    "scalar": (lambda: z_test(3.0, 0.0, 1.0), ["x is the scalar float32[]", "axis of observations; pass [x] for one"]),
    "std": (lambda: z_test([1.0], 0.0, -1.0), ["z_test: std", "-1", "positive"]),
    "one observation": (lambda: welch_t_test([1.0], [1.0, 2.0]), ["welch_t_test: a", "one observation,", "at least 2"]),
    "alternative": (lambda: welch_t_test(A, B, alternative="both"), ["alternative is 'both'", "two-sided"]),
    "half counts": (lambda: chi_squared_test([1.5, 2.0]), ["observed", "1.5", "whole number"]),
    "negative counts": (lambda: chi_squared_test([-1, 2]), ["observed has the entry -1", "0 or more"]),
    "no counts": (lambda: chi_squared_test([0, 0]), ["the sum of observed is 0"]),
    "empty counts": (lambda: chi_squared_test([]), ["observed", "no observations"]),
    "one category": (lambda: chi_squared_test([3]), ["observed is", "two categories"]),
    "row of zeros": (lambda: chi_squared_test([[0, 0], [1, 2]]), ["each row of observed has the entry 0", "leave out"]),
    "sums": (lambda: chi_squared_test([1, 2], [0.5, 0.5]), ["sum of expected is 1", "that of observed", "multiply"]),
    "expected": (lambda: chi_squared_test([1, 2], [0.0, 3.0]), ["expected has the entry 0", "positive"]),
    "shapes": (lambda: chi_squared_test([1, 2], [1.0, 1.0, 1.0]), ["expected is float32[3]"]),
    "table": (lambda: chi_squared_test([[1, 2], [3, 4]], [1.0, 2.0]), ["tested for independence", "flatten"]),
    "ddof": (lambda: chi_squared_test([1, 2], ddof=1), ["ddof is 1", "0 degrees of freedom"]),
    "key": (lambda: permutation_test(np.ones(20), np.ones(20)), ["137846528820 ways", "key"]),
    "empty sample": (lambda: permutation_test([], [1.0]), ["permutation_test: a", "no observations"]),
    "one of each": (lambda: permutation_test([1.0], [2.0]), ["one observation each"]),
    "axes": (lambda: permutation_test(np.ones((2, 2)), np.ones(2)), ["a is float32[2, 2]", "vmap"]),
    "permutations": (lambda: permutation_test(A, B, permutations=0), ["permutations is 0"]),
    "vector": (lambda: permutation_test([1.0, 2.0], [3.0], statistic=lambda a, b: a), ["statistic returns"]),
    "one run": (lambda: compare_runs([0.5], [0.5, 0.6]), ["compare_runs: a has the shape [1]", "at least two"]),
    "failed run": (lambda: compare_runs([0.5, np.nan], [0.5, 0.6]), ["a has the entry nan at 1", "finite"]),
    "alpha": (lambda: compare_runs(A, B, alpha=5), ["alpha is 5", "0.05"]),
    "test": (lambda: compare_runs(A, B, test="t"), ["test is 't'", "'welch'"]),
    "one folder": (lambda: compare_runs("runs/a", "runs/b"), ["a is one folder, 'runs/a'", "list"]),
    "no folder": (lambda: compare_runs(["/nowhere"] * 2, [1.0, 2.0]), ["cannot read '/nowhere/metrics.jsonl'"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name, refused):
    refused(*MISTAKES[name])


def test_a_metric_that_the_folder_lacks(tmp_path):
    runs = [write(tmp_path / name, [1.0]) for name in "ab"]
    with pytest.raises(dlfn.InputError, match="no metric 'accuracy'; it has test/loss, train/loss"):
        compare_runs(runs, runs, metric="accuracy")
    failed = [write(tmp_path / name, [1.0, None]) for name in "cd"]
    with pytest.raises(dlfn.InputError, match="a has the entry nan"):
        compare_runs(failed, runs)
