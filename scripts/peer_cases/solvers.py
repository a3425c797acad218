"""Solvers of equations: diffrax, lineax, optimistix, jaxopt, equinox's loops."""
# ruff: noqa: F401  # the expressions name what is imported

import diffrax as dfx
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jaxopt
import lineax as lx
import optimistix as optx

two, times = jnp.array([1.0, 2.0]), [0.0, 0.25, 0.5, 0.75, 1.0]
PID, CONSTANT = dfx.PIDController(1e-5, 1e-5), dfx.ConstantStepSize()


def ode(y, a, adjoint=None, solver=None, steps=CONSTANT):
    """A small equation, solved from 0 to 1."""
    term = dfx.ODETerm(lambda t, y, a: -a * y + jnp.sin(y))
    options = dict(stepsize_controller=steps, max_steps=64, adjoint=adjoint or dfx.RecursiveCheckpointAdjoint())
    return dfx.diffeqsolve(term, solver or dfx.Tsit5(), 0.0, 1.0, 0.1, y, args=a, **options).ys


def sde(y, a):
    path = dfx.VirtualBrownianTree(0.0, 1.0, 1e-3, (), jax.random.key(0))
    noise = dfx.ControlTerm(lambda t, y, a: 0.1 * a, path)
    terms = dfx.MultiTerm(dfx.ODETerm(lambda t, y, a: -a * y), noise)
    return dfx.diffeqsolve(terms, dfx.Euler(), 0.0, 1.0, 0.1, y, args=a).ys


def solve(A, b, solver, *tags):
    return lx.linear_solve(lx.MatrixLinearOperator(A, *tags), b, solver).value


def cubic(y, a):
    return y**3 + y - a


def bowl(y, a):
    return jnp.sum((y - a) ** 2 + y**4)


def root(a, solver, **options):
    return optx.root_find(cubic, solver, jnp.ones_like(a), a, max_steps=200, **options).value


def loop(kind, v):
    return eqxi.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, v), kind=kind, max_steps=4)[1]


def cosine(y, a):
    return jnp.cos(a * y)


def bisected(a):
    return jaxopt.Bisection(lambda y, a: y**3 - a, 0.0, 3.0, tol=1e-13, check_bracket=False).run(None, a).params


def constrained(S, b):
    problem = dict(params_obj=(S, b), params_eq=(jnp.ones((1, 4)), jnp.ones(1)))
    return jaxopt.EqualityConstrainedQP().run(**problem).params.primal


CASES = """
[diffrax]
ode(d, a)
ode(d, a, dfx.DirectAdjoint())
ode(d, a, dfx.BacksolveAdjoint())  # convention: the adjoint of the equation before it is discretised
ode(d, a, steps=PID)
ode(d, a, dfx.DirectAdjoint(), steps=PID)
ode(d, a, solver=dfx.Kvaerno3(), steps=PID)
ode(d, a, solver=dfx.{ReversibleHeun,Heun,Dopri5,Euler,Midpoint,Bosh3}())
ode(d, a, dfx.ForwardMode())
sde(e, a)
dfx.LinearInterpolation(jnp.asarray(times), v).evaluate(0.3)
dfx.CubicInterpolation(jnp.asarray(times), dfx.backward_hermite_coefficients(jnp.asarray(times), v)).evaluate(0.3)
[equinox]
loop("lax", v)
loop("checkpointed", v)
loop("bounded", v)
eqx.nn.{LayerNorm,RMSNorm}(5)(v)
eqx.nn.GRUCell(5, 3, key=key)(v, d)
eqx.nn.LSTMCell(5, 3, key=key)(v, (d, d))
eqx.nn.MLP(5, 2, 4, 2, key=key)(v)
eqx.nn.MultiheadAttention(2, 4, key=key)(A, B, S)
eqx.nn.Conv1d(4, 2, 3, key=key)(A)
eqx.nn.{MaxPool1d,AvgPool1d}(2)(x)
eqx.nn.PReLU()(v)
eqx.nn.RotaryPositionalEmbedding(4)(A)
eqx.filter_checkpoint(jnp.sin)(v)
eqxi.nondifferentiable_backward(v)  # convention: a gradient is refused by intent
[lineax]
solve(A, b, lx.{LU,QR,SVD}())
solve(A, b, lx.AutoLinearSolver(well_posed=True))
solve(A, b, lx.{GMRES,BiCGStab}(1e-12, 1e-12))
solve(S, b, lx.CG(1e-12, 1e-12), lx.positive_semidefinite_tag)
solve(A @ A.T, b, lx.Cholesky(), lx.positive_semidefinite_tag)
solve(jnp.tril(A), b, lx.Triangular(), lx.lower_triangular_tag)
lx.linear_solve(lx.TridiagonalLinearOperator(b + 4, d, -d), c).value
lx.linear_solve(lx.DiagonalLinearOperator(b + 4), c).value
lx.linear_solve(lx.JacobianLinearOperator(lambda y, _: jnp.sin(y) + 3 * y, b), c, lx.LU()).value
lx.linear_solve(lx.MatrixLinearOperator(M), jnp.concatenate([b, b[:2]]), lx.QR()).value
[optimistix]
root(two, optx.{Newton,Chord,Dogleg,LevenbergMarquardt}(1e-11, 1e-11))
root(two, optx.Newton(1e-11, 1e-11), adjoint=optx.RecursiveCheckpointAdjoint())
optx.root_find(cubic, optx.Bisection(1e-12, 1e-12), 0.5, o, options=dict(lower=0.0, upper=3.0)).value
optx.fixed_point(cosine, optx.FixedPointIteration(1e-13, 1e-13), e, a).value
optx.least_squares(cubic, optx.{LevenbergMarquardt,GaussNewton,Dogleg}(1e-12, 1e-12), jnp.ones(2), two).value
optx.minimise(bowl, optx.BFGS(1e-11, 1e-11), jnp.ones(2), two).value
optx.minimise(bowl, optx.NonlinearCG(1e-11, 1e-11), jnp.ones(2), two).value  # convention: stops at a tolerance
[jaxopt]
jaxopt.GradientDescent(bowl, maxiter=500, tol=1e-13).run(jnp.zeros(2), two).params  # convention: stops at a tolerance
jaxopt.{LBFGS,BFGS,NonlinearCG}(bowl, maxiter=500, tol=1e-13).run(jnp.zeros(2), two).params
bisected(o)  # convention: comparisons alone have slope 0
jaxopt.FixedPointIteration(cosine, maxiter=200, tol=1e-14).run(e, a).params
jaxopt.AndersonAcceleration(cosine, maxiter=50, tol=1e-13).run(e, a).params
jaxopt.projection.projection_{simplex,l1_ball,l2_ball,non_negative}(v)
jaxopt.prox.{prox_lasso,prox_ridge}(v, 0.3)
jaxopt.prox.prox_elastic_net(v, (0.3, 0.2))
jaxopt.loss.multiclass_{sparsemax,logistic}_loss(1, v)
jaxopt.loss.{huber_loss,binary_logistic_loss}(1, a)
constrained(S, b)  # convention: the matrix is meant to be symmetric
jaxopt.isotonic.isotonic_l2_pav(v)
jaxopt.linear_solve.solve_{cg,cholesky}(lambda h: S @ h, b)  # convention: the matrix is meant to be symmetric
jaxopt.linear_solve.solve_{lu,normal_cg}(lambda h: S @ h, b)
"""
