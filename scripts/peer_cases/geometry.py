"""Geometry, physics, graphs and images: e3nn, jaxlie, jax-md, brax, jraph, dm-pix, interpax, quadax."""
# ruff: noqa: F401  # the expressions name what is imported

import brax.math as bm
import dm_pix as pix
import e3nn_jax as e3nn
import interpax
import jax
import jax.numpy as jnp
import jaxlie
import jraph
import quadax
from jax_md import energy, space, util

points = jnp.stack([jnp.arange(5.0), jnp.arange(5.0) ** 0.5, jnp.cos(jnp.arange(5.0))], 1)
points, vectors = points + 0.1 * jnp.sin(7 * points), jnp.cos(3 * points)
quaternion, twist = jnp.array([0.8, 0.1, -0.3, 0.4]), jnp.array([0.2, -0.4, 0.3, 0.5, 0.1, -0.2])
nodes, edges = jnp.sin(points[:4]), jnp.cos(points)[:, :2]
groups, origin = jnp.array([0, 0, 1, 1, 1]), jnp.zeros((1, 3))
free, periodic = space.free()[0], space.periodic(2.0)[0]
photo = (1 + jnp.sin(jnp.arange(108.0)).reshape(6, 6, 3)) / 2.2
lattice = jnp.linspace(0.0, 2.0, 5)
graph = jraph.GraphsTuple(
    nodes=nodes, edges=edges, senders=jnp.array([0, 1, 2, 3, 0]), receivers=jnp.array([1, 2, 3, 0, 2]),
    n_node=jnp.array([4]), n_edge=jnp.array([5]), globals=jnp.ones((1, 2)),
)  # fmt: skip


def irreps(name, array):
    return e3nn.IrrepsArray(name, array)


def network(nodes, edges):
    def edge(e, s, r, g):
        return jnp.tanh(jnp.concatenate([e, s, r, g], -1).sum(-1, keepdims=True) * e)

    return jraph.GraphNetwork(edge, lambda n, s, r, g: n + s[:, :1])(graph._replace(nodes=nodes, edges=edges)).nodes


CASES = """
[e3nn]
e3nn.spherical_harmonics("0e+1o+2e+3o", points, True).array
e3nn.tensor_product(irreps("2x0e+1o", x), irreps("1o+2e", jnp.tile(b[:, None], 8))).array
e3nn.gate(irreps("4x0e+3x0e+3x1o", S.reshape(1, 16))).array
e3nn.norm_activation(irreps("2x0e+1o", x), [jax.nn.silu] * 2).array
e3nn.bessel(p, 5, 3.0)
e3nn.{soft_envelope}(p, 3.0)
e3nn.sus(v)
e3nn.poly_envelope(5, 2)(u)
e3nn.axis_angle_to_matrix(d, a)
e3nn.angles_to_matrix(a, e, o)
e3nn.{quaternion_to_matrix,quaternion_to_angles}(quaternion)
e3nn.norm(irreps("1o", origin)).array
e3nn.norm(irreps("1o", points)).array
e3nn.soft_one_hot_linspace(p, start=0.0, end=3.0, number=4, basis="gaussian", cutoff=False)
[jaxlie]
jaxlie.SO3.exp(d).as_matrix()
jaxlie.SO3.exp(zero3).as_matrix()
jaxlie.SE3.exp(twist).as_matrix()
jaxlie.SE3.exp(twist).inverse().log()
jaxlie.SO2.exp(a[None]).as_matrix()
jaxlie.SO3(quaternion).apply(d)
jaxlie.SO3.exp(d).{log,adjoint,as_quaternion_xyzw,compute_roll_radians,compute_yaw_radians}()
jaxlie.SE2.exp(d).log()
[jax-md]
energy.{soft_sphere_pair,lennard_jones_pair,morse_pair}(free)(points)
energy.lennard_jones_pair(periodic, sigma=0.3)(points / 3)
energy.stillinger_weber(free)(points)
energy.{soft_sphere,lennard_jones,morse}(a + p)
space.periodic_general(jnp.eye(3) * 2)[0](points[0], points[1], perturbation=jnp.eye(3) * e)
util.safe_mask(v > 0, jnp.log, v)
[brax]
bm.rotate(d, quaternion)
bm.safe_norm(zero3)
bm.safe_arccos(u)
bm.safe_arcsin(u)
bm.{quat_to_3x3,quat_inv,quat_to_axis_angle,quat_to_euler}(quaternion)
bm.euler_to_quat(d)
bm.from_to(d / jnp.linalg.norm(d), vectors[1] / jnp.linalg.norm(vectors[1]))
bm.orthogonals(d / jnp.linalg.norm(d))
bm.inv_approximate(A[:3, :3], jnp.linalg.inv(A[:3, :3]), 3)
[jraph]
jraph.{segment_softmax,segment_normalize,segment_max,segment_variance,segment_mean,segment_sum}(v, groups, 2)
jraph.{segment_min,segment_max_or_constant,segment_min_or_constant}(v, groups, 2)
network(nodes, edges)
jraph.GraphConvolution(lambda h: h, add_self_edges=True)(graph._replace(nodes=nodes, edges=None)).nodes
jraph.GAT(lambda h: h, lambda s, r, e: (s * r).sum(-1, keepdims=True))(graph._replace(nodes=nodes)).nodes
[dm-pix]
pix.{rgb_to_hsv,rgb_to_hsl,rgb_to_grayscale,flip_left_right,rot90}(photo)
pix.hsv_to_rgb(photo)
pix.adjust_{brightness,contrast,gamma,saturation,hue}(photo, a)
pix.gaussian_blur(photo, a, 3.0)
pix.{psnr,mae,mse,rmse,simse}(photo[None], photo[None] ** 2)
pix.ssim(photo[None], photo[None] ** 2, filter_size=3)
pix.{solarize}(photo, 0.5)
pix.median_blur(photo)
[interpax]
interpax.interp1d(u, lattice, v, method="{linear,cubic,cubic2,cardinal,monotonic,akima}")
interpax.Interpolator1D(lattice, v, method="catmull-rom")(u)
[quadax]
quadax.quadgk(lambda t, h: jnp.exp(-h * t * t), [0.0, 1.0], args=(a,))[0]
quadax.romberg(lambda t, h: jnp.exp(-h * t * t), [0.0, 1.0], args=(a,))[0]
quadax.simpson(v, dx=0.1)
"""
