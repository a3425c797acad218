"""Distributions, and conditional probability on tables."""

from dlfn.probability.continuous import Exponential, Normal, Uniform
from dlfn.probability.discrete import Bernoulli, Binomial, Poisson
from dlfn.probability.distribution import Distribution
from dlfn.probability.tables import bayes, conditional, independent, marginal

__all__ = [
    "Bernoulli",
    "Binomial",
    "Distribution",
    "Exponential",
    "Normal",
    "Poisson",
    "Uniform",
    "bayes",
    "conditional",
    "independent",
    "marginal",
]
