"""JAX: jax.nn, jax.numpy, jax.scipy, jax.lax, jax.random."""
# ruff: noqa: F401  # the expressions name what is imported

import jax
import jax.experimental.ode
import jax.numpy as jnp
import jax.scipy.optimize
import jax.scipy.special as sp
import jax.scipy.stats as st
from jax import lax
from jax.scipy import linalg as sla
from jax.scipy import signal as sig

spoilt = jnp.array([1.2, 2.0])
weights = jnp.array([0.0, 1.0, 0.5, 0.0, 2.0])
flat = jnp.array([-1.0, 0.0, 1.0])


def root(a):
    def solve(f, z):
        return lax.fori_loop(0, 40, lambda i, z: z - f(z) / (3 * z * z), z)

    return lax.custom_root(lambda z: z**3 - a, jnp.ones_like(a), solve, lambda g, y: y / g(jnp.ones_like(y)))


CASES = """
[jax.nn]
jax.nn.{relu,relu6,softplus,sparse_plus,sparse_sigmoid,soft_sign,sigmoid,silu,squareplus,mish,log_sigmoid}(x)
jax.nn.{leaky_relu,hard_sigmoid,hard_silu,hard_tanh,tanh,elu,celu,selu,gelu,identity}(x)
jax.nn.gelu(x, approximate=False)
jax.nn.glu(x[:, :4])
jax.nn.log1mexp(u)
jax.nn.{logsumexp,softmax,log_softmax,standardize,logmeanexp}(x)
jax.nn.logsumexp(v, b=weights)  # defect: the derivative in a weight that is 0 is taken for 0
jax.nn.softmax(x, where=jnp.arange(5) < 4)
jax.nn.{relu,relu6,hard_tanh,leaky_relu}(flat)  # convention: a kink, where differences see the mean slope
jax.nn.elu(flat)
jax.nn.dot_product_attention(T, U, V)
jax.nn.dot_product_attention(T, U, V, is_causal=True)
jax.nn.one_hot(labels, 5) * x
[jax.numpy]
jnp.{sin,cos,tan,arctan,sinh,cosh,tanh,arcsinh,exp,exp2,expm1,square,cbrt,abs,sinc,nan_to_num,deg2rad}(x)
jnp.{sqrt,log,log2,log10,log1p,reciprocal,i0}(p)
jnp.{arcsin,arccos,arctanh}(u)
jnp.arccosh(1 + p)
jnp.{logaddexp,logaddexp2,hypot,maximum,minimum,arctan2,copysign,fmod,heaviside}(x, y)
jnp.{power,float_power,divide,mod,remainder}(p, v)
jnp.{sum,mean,std,var,max,min,prod,cumsum,cumprod,sort,median,ptp,diff,nansum,nanmean,nanstd,ravel,flip}(x)
jnp.{median,std,average,cumsum}(x, axis=0)
jnp.percentile(v, 30.0)
jnp.quantile(x, 0.3, axis=1)
jnp.{cov,corrcoef}(x)
jnp.{dot,matmul,kron,outer}(A, B)
jnp.{inner,vdot,convolve,correlate,outer}(v, w)
jnp.{cross}(d, d[::-1])
jnp.einsum("ij,kj,k->i", x, y, b)
jnp.tensordot(T, U, ((2, 3), (2, 3)))
jnp.interp(u, jnp.linspace(0, 1, 5), v)
jnp.trapezoid(v, p)
jnp.polyfit(v, w, 2)
jnp.{polyval,polymul,polyadd}(v, w)
jnp.piecewise(v, [v < 0], [lambda z: -z, lambda z: z**2])
jnp.select([v > 0, w > 0], [v * w, v])
jnp.where(x > 0, x, 0.1 * x)
jnp.clip(x, -0.5, 0.5)
jnp.roll(v, 2)
jnp.pad(x, 2, mode="reflect")
jnp.pad(x, 1, mode="wrap")
jnp.unwrap(4 * v)
jnp.take_along_axis(x, labels[:, None], 1)
jnp.{vander,diag}(b)
jnp.gradient(x, axis=0)
jnp.apply_along_axis(jnp.linalg.norm, 1, x)
jnp.block([[A, B], [B, A]])
jnp.abs(jnp.fft.{fft,rfft,ifft,hfft}(v))
jnp.fft.irfft(jnp.fft.rfft(signal) * 2)
jnp.abs(jnp.fft.{fft2,rfft2}(image))
jnp.real(jnp.exp(1j * v))
v.at[jnp.array([0, 2])].{set,add,mul,max,min,divide}(d[:2])
v.at[jnp.array([1, 1])].add(d[:2])
[jax.numpy.linalg]
jnp.linalg.{det,inv,norm,pinv,cond,trace,slogdet,svdvals,qr,matrix_transpose}(A)
jnp.linalg.{svd,eigh}(S)
jnp.linalg.{cholesky,eigvalsh}(S)
jnp.linalg.{norm}(A, 2)
jnp.linalg.norm(A, "nuc")
jnp.linalg.matrix_power(A, 3)
jnp.linalg.multi_dot([A, B, S])
jnp.linalg.{solve}(A, b)
jnp.linalg.lstsq(M, jnp.concatenate([b, b[:2]]))[0]
jnp.linalg.{vecdot,outer}(v, w)
jnp.linalg.vector_norm(x, axis=1)
jnp.linalg.tensorinv(A.reshape(4, 2, 2), ind=1)
jnp.abs(jnp.linalg.eigvals(A))
[jax.scipy.linalg]
sla.{expm,det,inv,cholesky}(S / 9)
sla.solve_triangular(jnp.tril(A), b, lower=True)
sla.lu(A)[1:]
sla.cho_solve(sla.cho_factor(S), b)
sla.solve(A, b)
sla.solve_sylvester(A, B.T, S)
sla.{toeplitz,hilbert}(4) * A
sla.toeplitz(v)
sla.block_diag(A, B)
sla.eigh_tridiagonal(v, b, eigvals_only=True)
jnp.real(sla.sqrtm(S))
sla.polar(A)[0]
[jax.scipy.special]
sp.{digamma,entr,erf,erfc,exp1,expi,expit,gammaln,i0,i0e,i1,i1e,log_ndtr,logsumexp,ndtr,softmax}(p)
sp.{spence,gamma,loggamma,factorial,log_softmax}(p)
sp.spence(spoilt)  # defect: nan
sp.{logit,ndtri,erfinv}(u)
sp.{beta,betaln,xlog1py,xlogy,kl_div,rel_entr,gammainc,gammaincc}(p, q)
sp.zeta(1.5 + p, q)
sp.betainc(p, q, u)
sp.multigammaln(p + 3, 3)
sp.polygamma(2, p)
sp.hyp1f1(e, o, a)
sp.hyp2f1(e, o, o + 1, 0.4 * a)
sp.expn(2, p)
sp.xlogy(flat[1:], q[:2])
jnp.real(sp.sph_harm_y(jnp.array([2]), jnp.array([1]), u[:1], p[:1], n_max=3))

[jax.scipy.stats]
st.{norm,laplace,logistic,cauchy,gumbel_r,gumbel_l}.logpdf(v)
st.expon.logpdf(p)
st.{gamma,chi2,pareto}.logpdf(p + 2, q)
st.beta.logpdf(u, p, q)
st.t.logpdf(v, p)
st.dirichlet.logpdf(u / jnp.sum(u), p)
st.truncnorm.logpdf(u, -p - 1, q + 1)
st.gennorm.logpdf(v, p + 1)
st.vonmises.logpdf(v, p)
st.wrapcauchy.logpdf(p, u)
st.poisson.logpmf(counts, p)
st.bernoulli.logpmf(counts % 2, u)
st.nbinom.logpmf(counts, p, u)
st.binom.logpmf(counts, 5, u)
st.betabinom.logpmf(counts, 5, p, q)
st.{norm,logistic,cauchy,laplace}.cdf(v)
st.norm.{sf,logcdf,logsf}(v)
st.{gamma,chi2}.cdf(p, q)
st.beta.cdf(u, p, q)
st.multivariate_normal.logpdf(c, b, S)
st.gaussian_kde(v).logpdf(w)
[jax.scipy]
jax.scipy.ndimage.map_coordinates(image, [5 * u, 5 * n], order=1)
sig.{convolve,fftconvolve,correlate}(v, d)
sig.convolve2d(image, A)
jnp.abs(sig.stft(signal, nperseg=8)[2])
sig.welch(signal, nperseg=8)[1]
sig.detrend(v)
jax.scipy.fft.{dct,idct}(v)
jax.scipy.sparse.linalg.{cg,bicgstab}(S, b, tol=1e-14)[0]
jax.scipy.sparse.linalg.gmres(S, b, tol=1e-14)[0]
jax.scipy.optimize.minimize(lambda h: jnp.sum((h - d) ** 2), jnp.zeros(3), method="BFGS").x
jax.experimental.ode.odeint(lambda y, t, a: -a * y, d, jnp.linspace(0.0, 1, 4), a)
jax.scipy.integrate.trapezoid(v)
[jax.lax]
lax.{rsqrt,lgamma,digamma,bessel_i0e,bessel_i1e,erf_inv}(u)
lax.{igamma,igammac}(p, q)
lax.cumlogsumexp(v)
lax.{cummax,cummin}(v)
lax.reduce_window(image, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")
lax.reduce_window(image, 0.0, lax.add, (2, 2), (1, 1), "SAME")
lax.associative_scan(jnp.multiply, v)
lax.custom_linear_solve(lambda h: S @ h, b, lambda _, h: jnp.linalg.solve(lax.stop_gradient(S), h), symmetric=True)
root(p)
lax.while_loop(lambda h: h[0] < 3, lambda h: (h[0] + 1, h[1] * v), (0, w))[1]
lax.fori_loop(0, 3, lambda i, h: jnp.sin(h) * v, w)
lax.ragged_dot(M, T[0, :6].reshape(6, 8)[:3].reshape(2, 3, 4), jnp.array([2, 4]))
lax.map(jax.checkpoint(jnp.sin), v)
lax.conv(image[None, None], A[None, None], (1, 1), "SAME")
lax.conv_transpose(image[None, :, :, None], A[:, :, None, None], (2, 2), "SAME")
lax.top_k(v, 3)[0]
lax.sort_key_val(v, w)[1]
lax.linalg.tridiagonal_solve(v, v + 5, w, x[:, :1].repeat(2, 0)[:5])
lax.reduce_precision(v, 8, 7)  # convention: cotangents are rounded too
lax.switch(1, [jnp.sin, jnp.cos], v)
[jax.random]
jax.random.gamma(key, p)  # convention: samples jump; the derivative is the quantile function's
jax.random.beta(key, p, q)  # convention: as for gamma
v + p * jax.random.normal(key, (5,))
jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0.0)
jax.random.truncated_normal(key, -p, q, (5,))
jax.random.dirichlet(key, p)  # convention: as for gamma
jax.random.multivariate_normal(key, b, S)
jax.random.t(key, p)  # convention: as for gamma
jax.random.loggamma(key, p)  # convention: as for gamma
"""
