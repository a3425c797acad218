#!/usr/bin/env python
"""Linear regression of diabetes and logistic regression of breast cancer, both data sets of scikit-learn, by gradient
descent with the closed-form gradients, beside scikit-learn's solvers."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.table import format_table
from dlfn.linear_models import linear_regression, logistic_regression
from scripts._example import require


def standardised(load):
    data = load()
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    return x, data.target.astype(float), list(data.feature_names)


def compared(model, x, y, names, theirs, steps, l2):
    """Prints the parameters of both, and returns the largest difference."""
    fit = model.fit(x, y, steps=steps, l2=l2)
    gradient = model.gradient(fit.params, x, y, l2=l2)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    ours = [*np.asarray(fit.params["w"]), float(fit.params["b"])]
    other = [*np.ravel(theirs.coef_), float(np.ravel(theirs.intercept_)[0])]
    rows = [[name, f"{a:.6f}", f"{b:.6f}"] for name, a, b in zip([*names, "bias"], ours, other, strict=True)]
    print(format_table(["feature", "dlfn", "scikit-learn"], rows))
    apart = float(np.max(np.abs(np.subtract(ours, other))))
    print(
        f"loss {fit.losses[-1]:.6f} after {steps} steps, largest gradient {largest:.1e}, parameters {apart:.1e} apart"
    )
    return fit.params, apart


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, metavar="N", help="steps of gradient descent")
    parser.add_argument("--l2", type=float, default=0.01, help="λ of the logistic regression")
    arguments = parser.parse_args(argv)
    if arguments.steps < 1 or not arguments.l2 > 0:
        parser.error("--steps and --l2 must be positive")
    require(parser, "this", "scikit-learn", "sklearn")
    from sklearn import datasets, linear_model

    with jax.enable_x64(True):
        x, y, names = standardised(datasets.load_diabetes)
        print(f"diabetes: linear regression, {len(x)} patients")
        theirs = linear_model.LinearRegression().fit(x, y)
        params, apart = compared(linear_regression, x, y, names, theirs, arguments.steps, 0.0)
        residual = np.asarray(linear_regression.predict(params, x)) - y
        print(f"R² = {1 - residual.var() / y.var():.4f}; scikit-learn's {theirs.score(x, y):.4f}\n")

        x, y, names = standardised(datasets.load_breast_cancer)
        print(f"breast cancer: logistic regression, {len(x)} tumours, λ = {arguments.l2:g}")
        theirs = linear_model.LogisticRegression(C=1 / (arguments.l2 * len(x)), tol=1e-10, max_iter=1000).fit(x, y)
        params, other = compared(logistic_regression, x, y, names, theirs, arguments.steps, arguments.l2)
        right = np.mean((np.asarray(logistic_regression.predict(params, x)) > 0.5) == y)
        print(f"accuracy {right:.4f}; scikit-learn's {theirs.score(x, y):.4f}")
    agree = max(apart, other) < 1e-3
    print("both agree with scikit-learn to 1e-3" if agree else "not yet at scikit-learn's optimum: try more --steps")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
