"""Examples for the rules of linear algebra: single matrices and stacks, of every shape, real and complex, and sparse
ones."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import sparse
from jax.lax import linalg

RANDOM = np.random.default_rng(0)
SQUARE = RANDOM.normal(size=(3, 3)) + np.diag([3.0, -1.0, 2.0])
STACK = RANDOM.normal(size=(2, 3, 3)) + 2 * np.eye(3)
TALL, WIDE = RANDOM.normal(size=(2, 4, 3)), RANDOM.normal(size=(2, 3, 5))
SIDE, SIDE_STACK = RANDOM.normal(size=(3, 2)), RANDOM.normal(size=(2, 3, 2))
BANDS = [RANDOM.normal(size=(2, 4)), RANDOM.normal(size=(2, 4)) + 4, RANDOM.normal(size=(2, 4))]


def parts(*arrays):
    """Real and imaginary parts of arrays as one row."""
    return jnp.concatenate([part.ravel() for a in arrays for part in (a.real, a.imag)])


def on_complex(f):
    """f of a complex array, as a real function of its real and imaginary part."""
    return lambda x, y: parts(*jax.tree.leaves(f(lax.complex(x, y))))


def definite(a):
    return a @ jnp.conj(jnp.swapaxes(a, -1, -2)) + jnp.eye(a.shape[-1])


def flat(f):
    """All that f returns as one row, but what is of integers."""
    return lambda *args: jnp.concatenate([y.ravel() for y in f(*args) if jnp.issubdtype(y.dtype, jnp.floating)])


def svd(**options):
    return lambda x: linalg.svd(x, **{"full_matrices": False, **options})


def solve_triangular(**options):
    return lambda a, b: linalg.triangular_solve(a, b, **options)


def adjoint_system(side, conjugate):
    options = dict(left_side=side, lower=side, transpose_a=True, conjugate_a=conjugate)
    return lambda a, c, b: parts(linalg.triangular_solve(lax.complex(a, c), b + 1j * b[::-1], **options))


def without_gauge(u, s, vh):
    """What does not depend on the phases of complex singular vectors."""
    return s, u * jnp.conj(u[:1]), vh * jnp.conj(vh[:, :1]), u[:, :1] * vh[:1]


def conjugate_gradients(a, b):
    matrix, solver = definite(a), jax.scipy.sparse.linalg.cg
    return lax.custom_linear_solve(lambda x: matrix @ x, b, lambda f, b: solver(f, b, tol=1e-14)[0], symmetric=True)


CASES = {
    "cholesky": [
        (lambda a: linalg.cholesky(definite(a)), SQUARE),
        (lambda a: linalg.cholesky(definite(a)), STACK),
        (on_complex(lambda a: linalg.cholesky(definite(a))), SQUARE, STACK[0]),
    ],
    "lu": [
        (lambda a: linalg.lu(a)[0], SQUARE), (lambda a: linalg.lu(a)[0], TALL), (lambda a: linalg.lu(a)[0], WIDE),
        (on_complex(lambda a: linalg.lu(a)[0]), SQUARE, STACK[0]), (jnp.linalg.det, STACK),
    ],
    "qr": [
        (flat(jnp.linalg.qr), SQUARE), (flat(jnp.linalg.qr), TALL), (flat(jnp.linalg.qr), WIDE),
        (flat(lambda a: jnp.linalg.qr(a, mode="complete")), TALL),
        (flat(lambda a: linalg.qr(a, pivoting=True, full_matrices=False)), TALL[0]),
        (lambda a: jnp.linalg.qr(a)[0], TALL), (lambda a: jnp.linalg.qr(a, mode="r"), WIDE),
        (on_complex(jnp.linalg.qr), TALL[0], TALL[1]), (on_complex(jnp.linalg.qr), WIDE[0], WIDE[1]),
    ],
    "eigh": [
        (flat(lambda a: linalg.eigh(a)), SQUARE), (flat(lambda a: linalg.eigh(a)), STACK),
        (jnp.linalg.eigvalsh, STACK), (lambda a: linalg.eigh(a)[0][..., 0], SQUARE),
        (on_complex(lambda a: without_gauge(*linalg.eigh(a), jnp.eye(3))[:2]), SQUARE, STACK[0]),
    ],
    "svd": [
        (flat(svd()), SQUARE), (flat(svd()), TALL), (flat(svd()), WIDE), (svd(compute_uv=False), WIDE),
        (lambda a: svd()(a)[0], TALL[0]), (lambda a: svd()(a)[2], WIDE[0]),
        (on_complex(lambda a: without_gauge(*svd()(a))), TALL[0], TALL[1]),
        (on_complex(lambda a: without_gauge(*svd()(a))), WIDE[0], WIDE[1]),
        (jnp.linalg.pinv, TALL[0]), (lambda a: jnp.linalg.norm(a, 2), SQUARE),
    ],
    "eig": [
        (lambda a: parts(jnp.linalg.eigvals(a)), STACK),
        (on_complex(jnp.linalg.eigvals), SQUARE, STACK[0]),
    ],
    "triangular_solve": [
        (solve_triangular(left_side=True, lower=True), SQUARE, SIDE),
        (solve_triangular(left_side=False, lower=False, transpose_a=True), STACK, SIDE_STACK.swapaxes(1, 2)),
        (solve_triangular(left_side=True, lower=False, transpose_a=True, unit_diagonal=True), STACK, SIDE_STACK),
        *((adjoint_system(*options), SQUARE, STACK[0], SIDE if options[0] else SIDE.T)
          for options in ((True, True), (False, True), (True, False))),
    ],
    "tridiagonal_solve": [
        (linalg.tridiagonal_solve, *BANDS, TALL),
        (lambda d, e, b: parts(linalg.tridiagonal_solve(d + 1j * e, 3 + d * 1j, e + 0j, b + 1j * b)),
         *BANDS[::2], TALL),
    ],
    "custom_linear_solve": [
        (jnp.linalg.solve, SQUARE, SIDE), (jnp.linalg.solve, STACK, SIDE_STACK), (jnp.linalg.inv, STACK),
        (jax.vmap(jnp.linalg.solve, (None, 0)), SQUARE, SIDE.T), (conjugate_gradients, SQUARE, SIDE[:, 0]),
        (lambda a, b, c: parts(jnp.linalg.solve(a + 1j * b, c)), SQUARE, STACK[0], SIDE),
    ],
}  # fmt: skip


INDICES = np.array([[0, 1], [0, 3], [1, 0], [2, 1], [2, 2]])  # of the entries of a matrix (3, 4)
ENDS = np.array([0, 2, 3, 5])  # of its rows
DATA, DENSE = RANDOM.normal(size=5), RANDOM.normal(size=(4, 2))


def coo(data, indices=INDICES):
    return sparse.BCOO((data, indices), shape=(3, 4))


def csr(data):
    return sparse.BCSR((data, INDICES[:, 1], ENDS), shape=(3, 4))


def repeated(data):
    """With each entry twice."""
    return coo(jnp.concatenate([data, data**2]), np.concatenate([INDICES, INDICES[::-1]]))


ROWS = RANDOM.normal(size=(3, 2, 2))  # two entries of each of two rows, of a stack of three matrices (3, 2, 3)
COLUMNS = np.array([[[[0], [2]], [[1], [2]]]] * 3)


def stack_product(*dimension_numbers):
    def product(data, x):
        matrices = sparse.BCOO((data, COLUMNS), shape=(3, 2, 3))
        return sparse.bcoo_dot_general(matrices, x, dimension_numbers=dimension_numbers)

    return product


def rows_product(data, x):
    """Of a matrix with rows that are there in full, by columns."""
    matrix = sparse.BCOO((data, np.array([[2], [0]])), shape=(3, 3))
    return sparse.bcoo_dot_general(matrix, x, dimension_numbers=(([0], [0]), ([], [])))


SPARSE_CASES = {
    "bcoo_todense": [(lambda d: coo(d).todense(), DATA)],
    "bcoo_fromdense": [(lambda a: sparse.BCOO.fromdense(a, nse=9).data ** 2, STACK[0])],
    "bcoo_extract": [
        (lambda a: sparse.bcoo_extract(coo(DATA), a, assume_unique=True).data, np.outer(SIDE[:, 0], DATA[:4])),
    ],
    "bcoo_transpose": [(lambda d: coo(d).T.todense() ** 2, DATA)],
    "bcoo_sort_indices": [(lambda d: repeated(d).sort_indices().data, DATA)],
    "bcoo_sum_duplicates": [(lambda d: repeated(d).sum_duplicates(nse=5).data ** 2, DATA)],
    "bcoo_dot_general": [
        (lambda d, x: coo(d) @ x, DATA, DENSE), (lambda d, x: repeated(d) @ x, DATA, DENSE[:, 0]),
        (lambda d, x: x @ coo(d), DATA, SIDE.T), (stack_product(([1], [0]), ([0], [2])), ROWS, TALL),
    ],
    "bcoo_dot_general_sampled": [(
        lambda a, b: sparse.bcoo_dot_general_sampled(a, b, INDICES, dimension_numbers=(([1], [0]), ([], []))),
        SIDE, DENSE.T,
    )],
    "bcsr_dot_general": [(lambda d, x: csr(d) @ x, DATA, DENSE)],
    "bcsr_todense": [(lambda d: csr(d).todense(), DATA)],
}  # fmt: skip

# Where JAX has no derivative, or another than differences.
BEYOND_JAX = {
    "svd": [(lambda a: jnp.linalg.svd(a)[1], TALL)],
    "bcoo_dot_general": [(rows_product, SQUARE[:2], SIDE)],
    "bcoo_spdot_general": [(lambda d: (coo(d) @ coo(d).T).todense(), DATA)],
    "qr": [(flat(lambda a: linalg.qr(a, pivoting=True)), WIDE), (flat(lambda a: linalg.qr(a, pivoting=True)), TALL)],
}
