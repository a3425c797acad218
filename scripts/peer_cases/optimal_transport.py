"""ott: optimal transport, by implicit differentiation and unrolled."""
# ruff: noqa: F401  # the expressions name what is imported

import jax
import jax.numpy as jnp
from ott.geometry import costs, pointcloud
from ott.math import matrix_square_root
from ott.math import utils as mu
from ott.problems.linear import linear_problem
from ott.solvers.linear import implicit_differentiation, sinkhorn
from ott.tools import soft_sort

covariance, other = jnp.array([0.1, 0.2, 2, 0.3, 0.3, 1]), jnp.array([0.5, -0.2, 1, 0.1, 0.1, 2])


def transport(x, y, w, implicit, **options):
    problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=0.3), a=jax.nn.softmax(w))
    rule = implicit_differentiation.ImplicitDiff() if implicit else None
    return sinkhorn.Sinkhorn(threshold=1e-10, max_iterations=500, implicit_diff=rule, **options)(problem).reg_ot_cost


CASES = """
[ott]
transport(x, y, b, True)
transport(x, y, b, False)
transport(x, y, b, True, lse_mode=False)
soft_sort.{sort,ranks}(v)
soft_sort.quantile(v, 0.3)
costs.SoftDTW(gamma=0.5)(v, w)
costs.Bures(2)(covariance, other)
costs.PNormP(1.5)(v, w)
costs.{Euclidean,SqEuclidean,Cosine}()(v, w)
matrix_square_root.sqrtm(S)[0]
mu.logsumexp(x, axis=0)
mu.norm(v)
mu.norm(zero3)
mu.softmin(x, 0.3, 0)
mu.safe_log(u)
"""
