"""Probability: numpyro, distrax, blackjax, tinygp, flowjax."""
# ruff: noqa: F401  # the expressions name what is imported

import blackjax
import distrax
import flowjax.bijections as fb
import jax
import jax.numpy as jnp
import numpyro.distributions as nd
import paramax
import tinygp
from blackjax.mcmc import integrators, metrics
from numpyro.distributions import transforms as nt
from tinygp import kernels

grid = jnp.linspace(0.0, 2.0, 5)


def density(h):
    return -jnp.sum(h**4 + h * h)


def step(position, momentum, integrator):
    state = integrators.new_integrator_state(density, position, momentum)
    kinetic = metrics.default_metric(jnp.ones(5)).kinetic_energy
    return integrator(density, kinetic)(state, 0.1).position


def evidence(kernel, x, y):
    return tinygp.GaussianProcess(kernel, x, diag=0.1).log_probability(y)


def flow(bijection, h):
    return paramax.unwrap(bijection).transform_and_log_det(h)


CASES = """
[numpyro]
nd.{Normal,Cauchy,Laplace,Logistic,Gumbel,VonMises,SoftLaplace}(v, p).log_prob(w)
nd.{LogNormal,LogUniform}(p, p + q).log_prob(p + q / 2)
nd.{Gamma,Weibull,InverseGamma}(p, q).log_prob(r)
nd.{Beta,Kumaraswamy}(p, q).log_prob(u)
nd.StudentT(p + 2, v, q).log_prob(w)
nd.AsymmetricLaplace(v, p, q).log_prob(w)
nd.{Exponential,HalfCauchy,HalfNormal,Chi2}(p).log_prob(q)
nd.{Pareto}(q, p).log_prob(q + r)
nd.LKJCholesky(3, e).log_prob(jnp.eye(3))
nd.LowRankMultivariateNormal(v, jnp.stack([p, q], 1), r).log_prob(w)
nd.MultivariateNormal(b, S).log_prob(c)
nd.MultivariateStudentT(o + 1, b, jnp.linalg.cholesky(S)).log_prob(c)
nd.Dirichlet(p).log_prob(jax.nn.softmax(v))
nd.TruncatedNormal(v, p, low=0.0).log_prob(q)
nd.{Beta,Gamma}(p, q).sample(key)  # convention: samples jump; the derivative is the quantile function's
nd.StudentT(p + 2, v, q).sample(key)  # convention: as for the gamma distribution
nd.ZeroInflatedPoisson(u, p).log_prob(counts)
nd.NegativeBinomial2(p, q).log_prob(counts)
nd.BetaBinomial(p, q, 5).log_prob(counts)
nd.OrderedLogistic(v, jnp.cumsum(q)[:3]).log_prob(counts % 3)
nd.RelaxedBernoulliLogits(a, v).log_prob(u)
nd.kl_divergence(nd.Normal(v, p), nd.Normal(w, q))
nd.kl_divergence(nd.Gamma(p, q), nd.Gamma(r, p))
nd.kl_divergence(nd.Dirichlet(p), nd.Dirichlet(q))
nt.{StickBreakingTransform,CorrCholeskyTransform,OrderedTransform,SoftplusTransform,ExpTransform}()(d)
nt.{LowerCholeskyTransform,SigmoidTransform}()(d)
[distrax]
distrax.{Normal,Laplace,Logistic,Gumbel}(v, p).log_prob(w)
distrax.{Gamma}(p, q).log_prob(r)
distrax.Beta(p, q).log_prob(u)
distrax.Categorical(v).entropy()
distrax.Categorical(v).log_prob(2)
distrax.Softmax(v, 0.5).entropy()
distrax.MultivariateNormalTri(b, jnp.tril(A)).log_prob(c)
distrax.Normal(v, p).kl_divergence(distrax.Normal(w, q))
distrax.RationalQuadraticSpline(jnp.concatenate([v, w, v[:3]]), -2.0, 2.0).forward_and_log_det(a)
distrax.{Tanh,Sigmoid}().forward_and_log_det(v)
[blackjax]
step(v, w, integrators.{velocity_verlet,mclachlan,yoshida})
blackjax.diagnostics.{potential_scale_reduction,effective_sample_size}(image)
[tinygp]
evidence(e * kernels.{ExpSquared,Exp,Matern32,Matern52,Cosine}(a), grid, v)
evidence(e * kernels.RationalQuadratic(alpha=a), grid, v)
evidence(kernels.ExpSineSquared(scale=a, gamma=e), grid, v)
evidence(kernels.quasisep.Matern32(scale=a), grid, v)
evidence(kernels.quasisep.SHO(omega=e, quality=o), grid, v)
evidence(kernels.Polynomial(order=2, scale=e), grid, v)
[flowjax]
flow(fb.RationalQuadraticSpline(knots=5, interval=3), a)
flow(fb.Planar(key, dim=5), v)
flow(fb.Affine(v, p), w)
flow(fb.TriangularAffine(b, A), c)
flow(fb.{SoftPlus,Tanh,Exp,Sigmoid}((5,)), v)
flow(fb.LeakyTanh(1.0, (5,)), v)
flow(fb.BlockAutoregressiveNetwork(key, dim=5, depth=1, block_dim=2), v)
"""
