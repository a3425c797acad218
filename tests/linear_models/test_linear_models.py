"""The perceptron step by step, and regressions against least squares and scikit-learn, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, linear_model

import dlfn
from dlfn.linear_models import linear_regression, logistic_regression, perceptron, softmax_regression

pytestmark = pytest.mark.usefixtures("quick_compilation")

BIPOLAR = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
NAND = np.array([1.0, 1.0, 1.0, -1.0])


def test_the_documents_four_steps():
    """001 section 1, as printed."""
    steps = perceptron(BIPOLAR, NAND, passes=1, record=True).steps
    assert steps.score.tolist() == [0, 0, 0, 0]
    assert steps.prediction.tolist() == [1, 1, 1, 1]
    assert steps.error.tolist() == [0, 0, 0, -2]
    assert steps.weights.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [-2, -2, -2]]


def test_nand_converges():
    """And the recorded passes are those that a plain loop makes."""
    weights, history = np.zeros(3), []
    for number in range(1, 6):
        made, errors = number, 0
        for row, target in zip(BIPOLAR, NAND, strict=True):
            augmented = np.array([1.0, *row])
            error = target - (1.0 if weights @ augmented >= 0 else -1.0)
            weights = weights + error * augmented
            history.append(weights)
            errors += error != 0
        if not errors:
            break
    for record in (False, True):
        fit = perceptron(BIPOLAR, NAND, passes=5, record=record)
        assert fit.weights.tolist() == weights.tolist()
        assert (int(fit.passes), bool(fit.converged)) == (made, True)
    assert fit.steps.weights[: len(history)].tolist() == np.asarray(history).tolist()
    assert fit.steps.error[len(history) :].tolist() == [0.0] * (20 - len(history))
    ones = np.ones((4, 1))
    assert (np.sign(np.hstack([ones, BIPOLAR]) @ weights) == NAND).all()


def test_what_no_plane_separates_ends_at_the_limit():
    xor = np.array([-1.0, 1.0, 1.0, -1.0])
    for record in (False, True):
        fit = perceptron(BIPOLAR, xor, passes=7, record=record)
        assert (int(fit.passes), bool(fit.converged)) == (7, False)


def standardised(load, every):
    x, y = load(return_X_y=True)
    x, y = x[::every], y[::every]
    return (x - x.mean(0)) / x.std(0).clip(1e-9), y


def data(model):
    if model is linear_regression:
        return standardised(datasets.load_diabetes, 7)
    if model is logistic_regression:
        return standardised(datasets.load_breast_cancer, 5)
    return standardised(datasets.load_wine, 2)


MODELS = pytest.mark.parametrize(
    "model", [linear_regression, logistic_regression, softmax_regression], ids=lambda m: m.name
)


@MODELS
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_closed_form_gradients(model, l2, x64):
    """Against jax.grad, autodiff and backprop of the loss, and the documents' formulas."""
    x, y = map(jnp.asarray, data(model))
    outputs = (3,) if model is softmax_regression else ()
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(x.shape[1], *outputs))), "b": jnp.asarray(rng.normal(size=outputs))}
    gradient = model.gradient(params, x, y, l2=l2)

    def loss(params):
        return model.loss(params, x, y, l2=l2)

    ways = jax.grad(loss), jax.grad(dlfn.autodiff(loss)), dlfn.backprop(loss)
    for other in jax.jit(lambda params: [way(params) for way in ways])(params):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), gradient, other)
    target = np.eye(3)[np.asarray(y)] if model is softmax_regression else np.asarray(y)
    r = (np.asarray(model.predict(params, x)) - target) / len(x)
    np.testing.assert_allclose(gradient["w"], np.asarray(x).T @ r + l2 * params["w"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient["b"], r.sum(0), rtol=1e-9, atol=1e-12)


def test_linear_regression_is_least_squares(x64):
    x, y = data(linear_regression)
    fit = linear_regression.fit(x, y, steps=30_000)
    augmented = np.hstack([x, np.ones((len(x), 1))])
    exact = np.linalg.lstsq(augmented, y)[0]
    np.testing.assert_allclose(np.append(fit.params["w"], fit.params["b"]), exact, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fit.losses[-1], np.mean((augmented @ exact - y) ** 2) / 2, rtol=1e-12)
    assert (np.diff(fit.losses) <= 1e-9).all()
    theirs = linear_model.Ridge(alpha=0.1 * len(x), tol=1e-12).fit(x, y)
    ours = linear_regression.fit(x, y, l2=0.1, steps=2000).params
    np.testing.assert_allclose(ours["w"], theirs.coef_, rtol=1e-9)
    np.testing.assert_allclose(ours["b"], theirs.intercept_, rtol=1e-9)


@pytest.mark.parametrize("model", [logistic_regression, softmax_regression], ids=lambda m: m.name)
def test_classifiers_have_scikit_learns_optimum(model, x64):
    x, y = data(model)
    fit = model.fit(x, y, l2=0.1, steps=4000)
    gradient = model.gradient(fit.params, x, y, l2=0.1)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-10
    theirs = linear_model.LogisticRegression(C=1 / (0.1 * len(x)), tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    theirs.fit(x, y)
    if model is softmax_regression:
        assert set(y) == set(range(fit.params["w"].shape[1]))
        # Their optimum is unique but for one number added to all biases.
        bias = fit.params["b"] - jnp.mean(fit.params["b"])
        np.testing.assert_allclose(bias, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-10)
        np.testing.assert_allclose(fit.params["w"].T, theirs.coef_, atol=1e-10)
        np.testing.assert_allclose(model.predict(fit.params, x), theirs.predict_proba(x), atol=1e-10)
    else:
        np.testing.assert_allclose(fit.params["w"], theirs.coef_[0], atol=1e-10)
        np.testing.assert_allclose(fit.params["b"], theirs.intercept_[0], atol=1e-10)
        np.testing.assert_allclose(model.predict(fit.params, x), theirs.predict_proba(x)[:, 1], atol=1e-10)


def test_without_bias_and_inside_jit(x64):
    """001 section 2: J(w) = |Xw - y|² / 2N, and its update rule."""
    x, y = map(jnp.asarray, data(linear_regression))
    start = {"w": jnp.ones(x.shape[1])}
    fit = jax.jit(lambda x, y: linear_regression.fit(x, y, params=start, steps=1, learning_rate=0.1))(x, y)
    assert set(fit.params) == {"w"}
    r = x @ start["w"] - y
    np.testing.assert_allclose(fit.losses[0], r @ r / (2 * len(x)), rtol=1e-12)
    np.testing.assert_allclose(fit.params["w"], start["w"] - 0.1 / len(x) * x.T @ r, rtol=1e-12)


@MODELS
def test_strength_of_the_penalty_may_be_traced(model, x64):
    x, y = map(jnp.asarray, data(model))
    params = {"w": jnp.ones((x.shape[1], *[3] * (model is softmax_regression)))}
    for l2 in (0.0, 0.3):
        loss, slope = jax.jit(jax.value_and_grad(lambda l2: model.loss(params, x, y, l2=l2)))(l2)
        np.testing.assert_allclose(loss, model.loss(params, x, y, l2=l2), rtol=1e-12)
        np.testing.assert_allclose(slope, params["w"].size / 2, rtol=1e-12)


def test_data_without_curvature_have_a_longest_step():
    """001 section 2 with X = 0: no weights explain anything, and they stay where they were."""
    x, start = jnp.zeros((3, 2)), {"w": jnp.ones(2)}
    assert linear_regression.longest_step(x, bias=False) == 1
    fit = linear_regression.fit(x, jnp.ones(3), params=start, steps=5)
    assert fit.params["w"].tolist() == [1.0, 1.0]
    assert fit.losses.tolist() == [0.5] * 5
    assert jnp.isfinite(linear_regression.fit(1e-22 * jnp.ones((3, 2)), jnp.ones(3), params=start).losses).all()


@MODELS
def test_half_types_are_fitted_in_float32(model):
    x, y = jnp.eye(3, 2, dtype=jnp.bfloat16), jnp.array([0, 1, 1])
    start = {"w": jnp.zeros((2, *[2] * (model is softmax_regression)), jnp.bfloat16)}
    fit = model.fit(x, y, params=start, steps=2)
    assert fit.params["w"].dtype == fit.losses.dtype == model.scores(start, x).dtype == jnp.float32


def test_mistakes_are_refused(refused):
    x, y = jnp.ones((4, 2)), jnp.array([0, 1, 1, 0])
    refused(lambda: perceptron(x, y), ["perceptron: targets has the entry 0", "2 * targets - 1"])
    refused(lambda: perceptron(jnp.ones((0, 2)), jnp.ones(0)), ["perceptron: x is float32[0, 2]", "at least"])
    refused(lambda: perceptron(x, NAND, passes=0), ["passes is 0"])
    refused(lambda: linear_regression.fit(jnp.ones((0, 2)), jnp.ones(0)), ["linear_regression: x is float32[0, 2]"])
    refused(lambda: linear_regression.fit(jnp.ones((4, 0)), jnp.ones(4)), ["x is float32[4, 0]"])
    refused(lambda: linear_regression.fit(x, jnp.ones(3)), ["float32[4, 2]", "y is float32[3]", "must be (4,)"])
    refused(lambda: linear_regression.fit(x, jnp.ones((4, 1))), ["y is float32[4, 1]", "must be (4,)"])
    refused(lambda: logistic_regression.fit(x, 2 * y), ["logistic_regression: y has the entry 2", "0 or 1"])
    refused(lambda: softmax_regression.fit(x, y.astype(float)), ["softmax_regression: y is float32[4]", "class ids"])
    refused(lambda: softmax_regression.fit(x, y - 1), ["y has the entry -1", "class id from 0 to 0"])
    refused(lambda: softmax_regression.fit(x, y, classes=1), ["y has the entry 1", "class id from 0 to 0"])
    refused(lambda: softmax_regression.fit(x, y, l2=-1.0), ["l2 is -1"])
    refused(lambda: softmax_regression.fit(x, y, classes=0), ["classes is 0", "1 or more"])
    refused(lambda: jax.jit(softmax_regression.fit)(x, y), ["pass classes=... inside jit"])
    refused(lambda: linear_regression.loss({"w": jnp.ones(3)}, x, y), ["params['w'] is float32[3]"])
    refused(lambda: perceptron(x, NAND, learning_rate=-1.0), ["learning_rate is -1"])


@pytest.mark.parametrize("method", ["loss", "gradient", "predict", "scores"])
def test_all_methods_check_their_arguments(method, refused):
    x, y = jnp.ones((4, 2)), jnp.array([0, 1, 2, 0])
    call = getattr(softmax_regression, method)
    rest = () if method in ("predict", "scores") else (y,)
    good = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    call(good, x, *rest)
    for b in (jnp.ones(()), jnp.ones(1), jnp.ones((4, 3))):
        refused(lambda b=b: call({**good, "b": b}, x, *rest), [f"params['b'] is float32{list(b.shape)}", "(classes,)"])
    refused(lambda: call({"w": jnp.ones(2)}, x, *rest), ["params['w'] is float32[2]", "(features, classes)"])
    refused(lambda: call({"w": jnp.ones((2, 3), int)}, x, *rest), ["params['w'] is int32[2, 3]", "floating point"])
    refused(lambda: call(good, x[0], *rest), ["x is float32[2]"])
    if rest:
        refused(lambda: call(good, x, y + 1), ["y has the entry 3", "from 0 to 2"])
        refused(lambda: call(good, x, y, l2=-1.0), ["l2 is -1"])
    refused(lambda: linear_regression.loss(jnp.ones(3), x, y), ["must be a dictionary of 'w', and 'b'"])
    refused(lambda: linear_regression.fit(y[:, None], y), ["x is int32[4, 1]", "floating point"])
