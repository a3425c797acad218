"""Rules against derivatives that are not JAX's: PyTorch's of factorisations and Fourier transforms, mpmath's of special
functions."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

import dlfn
from helpers import cotangent
from rule_cases_matrices import SQUARE, STACK, TALL, WIDE

pytestmark = pytest.mark.usefixtures("quick_compilation")


def symmetric(a):
    return a + a.swapaxes(-1, -2)


def thin(svd, a):
    return svd(a, full_matrices=False)


# Of NumPy's namespace, that of linear algebra, and a matrix. Squares, as signs of vectors may differ.
FACTORISATIONS = {
    "cholesky": (lambda np, la, a: la.cholesky(a @ a.swapaxes(-1, -2)), STACK),
    "qr": (lambda np, la, a: la.qr(a)[0][..., :3, :] ** 2 * la.qr(a)[1] ** 2, TALL),
    "qr of a wide matrix": (lambda np, la, a: la.qr(a)[1] ** 2, WIDE),
    "svd": (lambda np, la, a: thin(la.svd, a)[0] ** 2 * thin(la.svd, a)[1][..., None, :], TALL),
    "svd of a wide matrix": (lambda np, la, a: thin(la.svd, a)[2] ** 2, WIDE),
    "singular values": (lambda np, la, a: la.svdvals(a), WIDE),
    "eigh": (lambda np, la, a: la.eigh(symmetric(a))[1] ** 2 * la.eigh(symmetric(a))[0], SQUARE),
    "eigvals": (lambda np, la, a: la.eigvals(a).real ** 2 + la.eigvals(a).imag ** 4, SQUARE),
    "lu": (lambda np, la, a: la.lu_factor(a)[0], STACK),
    "solve": (lambda np, la, a: la.solve(a, a[..., :2] ** 2), STACK),
    "pinv": (lambda np, la, a: la.pinv(a), TALL),
    "spectral norm": (lambda np, la, a: la.norm(a, 2), SQUARE),
    "slogdet": (lambda np, la, a: la.slogdet(a)[1], STACK),
    "spectrum": (lambda np, la, a: np.abs(np.fft.rfft(a)) ** 2, TALL),
    "convolution": (lambda np, la, a: np.fft.irfft(np.fft.rfft(a) * np.fft.rfft(a[:1]), 5), WIDE),
    "transform": (lambda np, la, a: (np.fft.fft2(a) * np.fft.ifft(a)).imag, TALL),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORISATIONS)
def test_factorisation_agrees_with_torch(name, x64):
    torch = pytest.importorskip("torch")
    f, a = FACTORISATIONS[name]
    jax_linalg = type("linalg", (), {**vars(jnp.linalg), "lu_factor": staticmethod(lax.linalg.lu)})
    ours = jax.jit(dlfn.backprop(lambda a: jnp.sum((y := f(jnp, jax_linalg, a)) * cotangent(y))))(a)
    given = torch.tensor(a, requires_grad=True)
    y = f(torch, torch.linalg, given)
    (y * torch.tensor(np.array(cotangent(y.detach().numpy())))).sum().backward()
    np.testing.assert_allclose(ours, given.grad.numpy(), rtol=1e-9, atol=1e-9)


# (function, the same in mpmath, points)
SPECIAL = {
    "lgamma": (special.gammaln, mpmath.loggamma, [0.3, 4.5]),
    "digamma": (special.digamma, lambda x: mpmath.digamma(x), [0.3, 4.5]),
    "polygamma": (lambda x: special.polygamma(2, x), lambda x: mpmath.polygamma(2, x), [0.3, 4.5]),
    "zeta": (lambda x: lax.zeta(jnp.full_like(x, 2.5), x), lambda x: mpmath.zeta(2.5, x), [0.3, 4.5]),
    "igamma": (lambda x: special.gammainc(1.7, x), lambda x: mpmath.gammainc(1.7, 0, x, True), [0.3, 4.5]),
    "igamma's a": (lambda a: special.gammainc(a, 1.7), lambda a: mpmath.gammainc(a, 0, 1.7, True), [0.3, 4.5]),
    "igammac": (lambda x: special.gammaincc(1.7, x), lambda x: 1 - mpmath.gammainc(1.7, 0, x, True), [0.3, 4.5]),
    "betainc": (lambda x: special.betainc(1.3, 0.7, x), lambda x: mpmath.betainc(1.3, 0.7, 0, x, True), [0.1, 0.8]),
    "i0e": (special.i0e, lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)), [-3.0, 0.4, 30.0]),
    "i1e": (special.i1e, lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)), [-3.0, 0.4, 30.0]),
    "i1": (special.i1, lambda x: mpmath.besseli(1, x), [-3.0, 0.0, 1e-9]),
    "erf": (special.erf, mpmath.erf, [-1.0, 2.5]),
    "erfc": (special.erfc, mpmath.erfc, [-1.0, 2.5]),
    "erf_inv": (special.erfinv, mpmath.erfinv, [-0.4, 0.9]),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_function_agrees_with_mpmath(name, x64):
    f, exact, points = SPECIAL[name]
    ours = jax.jit(dlfn.backprop(lambda x: jnp.sum(f(x))))(np.array(points))
    with mpmath.workdps(20):
        expected = [float(mpmath.diff(exact, x)) for x in points]
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("draw", [jax.random.gamma, jax.random.loggamma])
def test_a_gamma_sample_moves_as_its_quantile_does(draw, x64):
    """The sample is the quantile of a uniform number, which does not move with the shape parameter."""
    quantiles = pytest.importorskip("scipy.special")
    shapes, step = np.array([0.6, 2.5]), 1e-4
    samples, slopes = jax.jit(
        dlfn.backprop_value_and_grad(lambda a: (jnp.sum(y := draw(jax.random.key(1), a)), y), has_aux=True)
    )(shapes)
    logarithmic = draw is jax.random.loggamma
    uniform = quantiles.gammainc(shapes, np.exp(samples[1]) if logarithmic else samples[1])
    above, below = (quantiles.gammaincinv(shapes + h, uniform) for h in (step, -step))
    change = np.log(above / below) if logarithmic else above - below
    np.testing.assert_allclose(slopes, change / (2 * step), rtol=1e-6)
