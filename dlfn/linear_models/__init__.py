"""Linear models: the perceptron, and linear, logistic and softmax regression by gradient descent."""

from dlfn.linear_models.perceptron_rule import Perceptron, Steps, perceptron
from dlfn.linear_models.regression import (
    Fit,
    Regression,
    linear_regression,
    logistic_regression,
    softmax_regression,
)

__all__ = [
    "Fit",
    "Perceptron",
    "Regression",
    "Steps",
    "linear_regression",
    "logistic_regression",
    "perceptron",
    "softmax_regression",
]
