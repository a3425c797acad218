r"""Image augmentation: pure functions of a key and a batch of images (N, H, W, C), with a random choice per image.

Coordinates are pixels from the centre of the image, (x, y): x to the right, y downwards. All functions keep the dtype,
compile under ``jit`` with their keyword arguments fixed, and are differentiable in the images.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dlfn import ops
from dlfn.core import InputError
from dlfn.linalg import require_homogeneous, rotation, scaling, translation
from dlfn.ops.support.arguments import describe, require_float, require_values
from dlfn.ops.support.dtypes import sum_dtype

__all__ = ["affine", "crop", "flip", "noise", "random_affine"]


def affine(images: Any, matrix: Any, *, fill: float = 0.0) -> jax.Array:
    r"""Images moved by homogeneous matrices, :math:`x \mapsto x \circ A^{-1}`.

    What was at the point p is at A p afterwards: each pixel reads at :math:`A^{-1} p`, between four pixels with weights
    that are linear in both coordinates. Beyond the border all pixels are ``fill``. Differentiable in the images and,
    where no point is on a pixel's coordinate, in the matrix.

    Args:
        images: (N, H, W, C).
        matrix: (3, 3), or (N, 3, 3) for one per image, such as ``rotation(theta)``; the last row is (0, 0, 1).
        fill: what is around the images.

    Returns:
        Of the shape and dtype of the images.

    Raises:
        InputError: on images that are not floating point or have other than four axes, on matrices that do not fit, and
            on singular ones and other last rows (inside ``jit`` singular matrices make images of ``fill``, and the last
            row is not read). Matrices that are not finite make images of nan.

    Source: 004 linear algebra and applications.

    >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> print(affine(image, translation([1.0, 0.0]))[0, :, :, 0])
    [[0. 0. 1.]
     [0. 3. 4.]
     [0. 6. 7.]]
    """
    images, matrix = _images("affine", images), jnp.asarray(matrix)
    require_float("affine", "matrix", matrix)
    require_homogeneous("affine", matrix)
    n = images.shape[0]
    if matrix.ndim > 3 or matrix.shape[:-2] not in ((), (n,)):
        raise InputError(f"affine: matrix is {describe(matrix)}, and must be (3, 3), or ({n}, 3, 3) for {n} images")
    last = matrix[..., 2, :]
    affine_or_nan = (last == jnp.array([0, 0, 1])) | jnp.isnan(last)
    must_be = "(0, 0, 1), as nothing here makes perspective"
    require_values("affine", "the last row of matrix", last, affine_or_nan, must_be)
    dtype = jnp.promote_types(sum_dtype(images.dtype), matrix.dtype)
    back = jnp.broadcast_to(ops.inverse(matrix.astype(dtype)), (n, 3, 3))
    known = jnp.isfinite(matrix).all((-2, -1))[..., None, None, None]
    return jnp.where(known, _warped(images, back, jnp.asarray(fill, dtype)), jnp.nan)


@jax.jit
def _warped(images, back, fill):
    """The images read at the places to which ``back`` takes their pixels."""
    _, height, width, _ = images.shape
    x = jnp.arange(width, dtype=back.dtype) - (width - 1) / 2
    y = jnp.arange(height, dtype=back.dtype)[:, None] - (height - 1) / 2
    column, row = (
        back[:, i, 0, None, None] * x + back[:, i, 1, None, None] * y + back[:, i, 2, None, None] + (size - 1) / 2
        for i, size in ((0, width), (1, height))
    )
    return _bilinear(images, row, column, fill).astype(images.dtype)


def _bilinear(images, row, column, fill):
    """Values at the places (N, H, W) between pixels."""
    n, height, width, _ = images.shape
    # A place that is far off, or no number as of singular matrices, is as good as one just outside.
    row, column = (
        jnp.where((place > -2) & (place < size + 1), place, -2.0) for place, size in ((row, height), (column, width))
    )
    top, left = (lax.stop_gradient(jnp.floor(place)) for place in (row, column))
    low, right = row - top, column - left
    of_image = jnp.arange(n)[:, None, None]
    total = jnp.zeros((), row.dtype)
    for i, in_row in ((0, 1 - low), (1, low)):
        for j, in_column in ((0, 1 - right), (1, right)):
            r, c = top.astype(jnp.int32) + i, left.astype(jnp.int32) + j
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            pixel = images[of_image, jnp.clip(r, 0, height - 1), jnp.clip(c, 0, width - 1)].astype(row.dtype)
            value = jnp.where(inside[..., None], pixel, fill)
            total = total + (in_row * in_column)[..., None] * value
    return total


def random_affine(
    key: jax.Array,
    images: Any,
    *,
    angle: float = 0.0,
    scale: float = 0.0,
    shift: float = 0.0,
    fill: float = 0.0,
) -> jax.Array:
    r"""Each image turned, scaled and shifted at random, by :func:`affine`.

    Args:
        key: of the random choices.
        images: (N, H, W, C).
        angle: the largest rotation, in radians, either way.
        scale: the largest change of size: factors are :math:`e^u` with u uniform in [-scale, scale].
        shift: the longest shift, in pixels, along either axis.
        fill: what is around the images.

    Returns:
        Of the shape and dtype of the images.

    Raises:
        InputError: as :func:`affine`, and on negative bounds.

    Source: 004 applications.

    >>> images = jnp.ones((2, 4, 4, 1))
    >>> random_affine(jax.random.key(0), images, angle=0.3, shift=1.0).shape
    (2, 4, 4, 1)
    """
    images = _images("random_affine", images)
    for name, bound in (("angle", angle), ("scale", scale), ("shift", shift)):
        if not bound >= 0:
            raise InputError(f"random_affine: {name} is {bound!r}, and must be the largest change, 0 or more")
    draws = jax.random.uniform(key, (images.shape[0], 4), sum_dtype(images.dtype), -1.0, 1.0)
    return affine(images, _matrices(draws * jnp.array([angle, scale, shift, shift], draws.dtype)), fill=fill)


@jax.jit
def _matrices(changes):
    """From rows of an angle, the logarithm of a scale, and a shift."""
    size = jnp.exp(changes[:, 1:2])
    matrix = ops.matmul(rotation(changes[:, 0]), scaling(jnp.concatenate([size, size], axis=1)))
    return ops.matmul(translation(changes[:, 2:]), matrix)


def flip(key: jax.Array, images: Any, *, axis: str = "horizontal", probability: float = 0.5) -> jax.Array:
    """Each image mirrored with a probability.

    Args:
        key: of the random choices.
        images: (N, H, W, C).
        axis: "horizontal" exchanges left and right, "vertical" top and bottom.
        probability: of each image to be mirrored, from 0 to 1.

    Returns:
        Of the shape and dtype of the images.

    Raises:
        InputError: on images that are not floating point or have other than four axes, on an unknown axis, and on a
            probability that is none.

    Source: 004 applications.

    >>> print(flip(jax.random.key(0), jnp.arange(3.0).reshape(1, 1, 3, 1), probability=1.0).ravel())
    [2. 1. 0.]
    """
    images = _images("flip", images)
    if axis not in ("horizontal", "vertical"):
        raise InputError(f"flip: axis is {axis!r}, and must be 'horizontal' or 'vertical'")
    if not 0 <= probability <= 1:
        raise InputError(f"flip: probability is {probability!r}, and must be a number from 0 to 1")
    chosen = jax.random.bernoulli(key, probability, (images.shape[0], 1, 1, 1))
    return jnp.where(chosen, jnp.flip(images, 2 if axis == "horizontal" else 1), images)


def crop(
    key: jax.Array, images: Any, *, padding: int = 0, size: tuple[int, int] | None = None, fill: float = 0.0
) -> jax.Array:
    """A random window of each image, after padding it on all sides.

    Args:
        key: of the random choices.
        images: (N, H, W, C).
        padding: pixels, 0 or more.
        size: (height, width) of the window; that of the images by default.
        fill: what the padding is made of.

    Returns:
        (N, *size, C), in the dtype of the images.

    Raises:
        InputError: on images that are not floating point or have other than four axes, on a negative padding, and on a
            window that is empty or larger than the padded images.

    Source: 004 applications.

    >>> crop(jax.random.key(0), jnp.ones((2, 32, 32, 3)), padding=4).shape
    (2, 32, 32, 3)
    """
    images = _images("crop", images)
    n, height, width, channels = images.shape
    if not (isinstance(padding, int) and padding >= 0):
        raise InputError(f"crop: padding is {padding!r}, and must be an int, 0 or more")
    room = height + 2 * padding, width + 2 * padding
    window = (height, width) if size is None else tuple(size)
    if len(window) != 2 or not all(isinstance(part, int) and 1 <= part <= most for part, most in zip(window, room)):
        raise InputError(f"crop: size is {size!r}, and must be (height, width) from (1, 1) to the padded {room}")
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
    starts = jax.random.randint(key, (n, 2), 0, jnp.array([most - part + 1 for part, most in zip(window, room)]))

    def taken(image, start):
        return lax.dynamic_slice(image, (*start, 0), (*window, channels))

    return jax.vmap(taken)(padded, starts)


def noise(key: jax.Array, images: Any, *, std: float) -> jax.Array:
    r"""Normal noise on every pixel, :math:`x \mapsto x + \sigma \epsilon`.

    Args:
        key: of the random choices.
        images: (N, H, W, C).
        std: :math:`\sigma`, 0 or more.

    Returns:
        Of the shape and dtype of the images.

    Raises:
        InputError: on images that are not floating point or have other than four axes, and on a negative std.

    Source: 004 applications.

    >>> noise(jax.random.key(0), jnp.zeros((2, 4, 4, 1)), std=0.1).shape
    (2, 4, 4, 1)
    """
    images = _images("noise", images)
    if not std >= 0:
        raise InputError(f"noise: std is {std!r}, and must be a number that is 0 or more")
    return images + jnp.asarray(std, images.dtype) * jax.random.normal(key, images.shape, images.dtype)


def _images(function: str, images: Any) -> jax.Array:
    images = jnp.asarray(images)
    require_float(function, "images", images)
    if images.ndim != 4:
        hint = "; pass images[None] for a single one" if images.ndim == 3 else ""
        raise InputError(f"{function}: images is {describe(images)}, and must be (N, H, W, C){hint}")
    return images
