"""Augmentation: affine maps against scipy and PyTorch, random choices per image, compilation, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import dlfn
from dlfn import augmentation
from dlfn.augmentation import affine, crop, flip, noise, random_affine
from dlfn.linalg import rotation, scaling, translation

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def images(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def matrices():
    return jnp.stack([translation([0.7, -1.2]) @ rotation(angle) @ scaling([1.2, 0.8]) for angle in (0.0, 0.4, -2.0)])


def test_affine_against_scipy(x64):
    x, m = images(3, 7, 6, 2), matrices()
    centre = np.array([(7 - 1) / 2, (6 - 1) / 2])
    got = affine(x, m, fill=0.5)
    for image, matrix, result in zip(np.asarray(x), np.asarray(m), np.asarray(got), strict=True):
        back = np.linalg.inv(matrix)[:2][::-1]  # of (row, column): y first
        linear, shift = back[:, [1, 0]], back[:, 2]
        offset = centre + shift - linear @ centre
        for channel in range(2):
            expected = scipy.ndimage.affine_transform(
                image[..., channel], linear, offset, order=1, mode="grid-constant", cval=0.5
            )
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-12)


def test_affine_against_pytorch(x64):
    torch = pytest.importorskip("torch")
    x, m = images(3, 7, 6, 2), matrices()
    # Torch's coordinates run from -1 to 1 between the centres of the outer pixels.
    unit = np.diag([(6 - 1) / 2, (7 - 1) / 2, 1.0])
    theta = (np.linalg.inv(unit) @ np.linalg.inv(np.asarray(m)) @ unit)[:, :2]
    tensor = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).requires_grad_()
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), tensor.shape, align_corners=True)
    y = torch.nn.functional.grid_sample(tensor, grid, align_corners=True)
    np.testing.assert_allclose(affine(x, m), y.detach().permute(0, 2, 3, 1), atol=1e-12)
    weights = np.cos(np.arange(x.size)).reshape(x.shape)
    (y.permute(0, 2, 3, 1) * torch.tensor(weights)).sum().backward()
    for gradient in (jax.grad, dlfn.backprop):
        ours = jax.jit(gradient(lambda x: jnp.sum(affine(x, m) * weights)))(x)
        np.testing.assert_allclose(ours, tensor.grad.permute(0, 2, 3, 1), atol=1e-12)


def test_affine_is_differentiable_in_angle_scale_and_translation(x64):
    x = images(1, 6, 5, 1)

    def loss(theta, s, t, x):
        matrix = dlfn.ops.matmul(translation(t), dlfn.ops.matmul(rotation(theta), scaling(s)))
        return jnp.sum(affine(x, matrix) ** 2)

    point, step = (jnp.asarray(0.3), jnp.array([1.1, 0.9]), jnp.array([0.23, -0.41]), x), 1e-6
    which = (0, 1, 2, 3)
    ways = jax.grad(loss, which), jax.grad(dlfn.autodiff(loss), which), dlfn.backprop(loss, which)
    grads = jax.jit(lambda *point: [way(*point) for way in ways])(*point)
    for other in grads[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), grads[0], other)
    compiled = jax.jit(loss)
    for i in range(3):
        flat = np.asarray(point[i]).ravel()
        for j, got in enumerate(np.ravel(grads[0][i])):
            ends = []
            for sign in (1, -1):
                moved = flat.copy()
                moved[j] += sign * step
                ends.append(compiled(*point[:i], jnp.asarray(moved).reshape(point[i].shape), *point[i + 1 :]))
            np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * step), rtol=1e-6)


def test_affine_of_nothing_and_of_whole_pixels():
    x = images(2, 4, 5, 3).astype(jnp.float32)
    assert jnp.array_equal(affine(x, jnp.eye(3)), x)
    shifted = affine(x, translation([1.0, 2.0]), fill=-1.0)
    assert jnp.array_equal(shifted[:, 2:, 1:], x[:, :2, :4])
    assert (shifted[:, :2] == -1).all()
    assert (shifted[:, :, 0] == -1).all()
    assert jnp.array_equal(
        affine(x[:, :4, :4], rotation(np.pi / 2)).round(4), jnp.rot90(x[:, :4, :4], -1, (1, 2)).round(4)
    )
    assert (jax.jit(affine)(x, jnp.zeros((3, 3))) == 0).all()
    for compiled in (affine, jax.jit(affine)):
        moved = compiled(x, jnp.stack([rotation(jnp.nan), jnp.eye(3)]))
        assert jnp.isnan(moved[0]).all()
        assert jnp.array_equal(moved[1], x[1])
        assert jnp.isnan(compiled(x, scaling(jnp.inf))).all()
    spotted = x.at[0, 0, 0, 0].set(jnp.nan)
    assert jnp.isnan(affine(spotted, translation([10.0, 0.0]))).sum() == 0


AUGMENTATIONS = {
    "affine": functools.partial(random_affine, angle=0.5, scale=0.2, shift=1.0),
    "horizontal flip": flip,
    "vertical flip": functools.partial(flip, axis="vertical"),
    "crop": functools.partial(crop, padding=2),
    "small crop": functools.partial(crop, size=(5, 4)),
    "noise": functools.partial(noise, std=0.1),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.exhaustive), "bfloat16"])
def test_random_choices_are_pure_per_image_and_compiled(name, dtype):
    augment = AUGMENTATIONS[name]
    x = jnp.broadcast_to(images(1, 8, 6, 2), (32, 8, 6, 2)).astype(dtype)
    compiled = jax.jit(augment)
    y = compiled(KEY, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(float), augment(KEY, x).astype(float), atol=0.03)
    assert not jnp.array_equal(y, compiled(jax.random.key(1), x))
    assert len({image.tobytes() for image in np.asarray(y)}) > 1
    assert jax.eval_shape(augment, KEY, x[:0]).shape[0] == 0


def test_flips_are_mirrors():
    x = images(64, 3, 4, 1)
    for axis, name in ((2, "horizontal"), (1, "vertical")):
        y = flip(KEY, x, axis=name)
        mirrored = jnp.all(y == jnp.flip(x, axis), axis=(1, 2, 3))
        kept = jnp.all(y == x, axis=(1, 2, 3))
        assert bool(jnp.all(mirrored ^ kept))
        assert 16 < int(mirrored.sum()) < 48
        assert jnp.array_equal(flip(KEY, x, axis=name, probability=1.0), jnp.flip(x, axis))
        assert jnp.array_equal(flip(KEY, x, axis=name, probability=0.0), x)


def test_crops_are_windows():
    x = images(200, 4, 4, 1)
    y = crop(KEY, x, padding=1, fill=9.0)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=9.0)
    seen = set()
    for image, window in zip(padded, np.asarray(y), strict=True):
        seen |= {(i, j) for i in range(3) for j in range(3) if (image[i : i + 4, j : j + 4] == window).all()}
    assert len(seen) == 9


def test_noise_has_its_standard_deviation():
    x = jnp.ones((16, 32, 32, 3))
    y = noise(KEY, x, std=0.5)
    np.testing.assert_allclose([y.mean(), y.std()], [1.0, 0.5], atol=0.01)
    assert jnp.array_equal(noise(KEY, x, std=0.0), x)


def test_mistakes_are_refused(refused):
    x = jnp.ones((2, 4, 4, 1))
    for name in augmentation.__all__:
        arguments = {"affine": (x[0], jnp.eye(3))}.get(name, (KEY, x[0]))
        static = {"std": 1.0} if name == "noise" else {}
        function = functools.partial(getattr(augmentation, name), *arguments, **static)
        refused(function, [name, "float32[4, 4, 1]", "images[None]"])
    refused(lambda: flip(KEY, x.astype(jnp.uint8)), ["flip: images is uint8[2, 4, 4, 1]", "floating point"])
    refused(lambda: affine(x, jnp.eye(2)), ["affine: matrix is float32[2, 2]"])
    refused(lambda: affine(x, jnp.ones((3, 3, 3))), ["(2, 3, 3) for 2 images"])
    refused(lambda: affine(x, jnp.eye(3).at[2, 0].set(0.5)), ["the last row of matrix has the entry 0.5", "(0, 0, 1)"])
    refused(lambda: jax.grad(lambda m: affine(x, m).sum())(2 * jnp.eye(3)), ["the last row of matrix has the entry 2"])
    refused(lambda: affine(x, jnp.diag(jnp.array([1.0, 0.0, 1.0]))), ["inverse: a is singular"])
    refused(lambda: random_affine(KEY, x, angle=-1.0), ["angle is -1.0"])
    refused(lambda: flip(KEY, x, axis="width"), ["axis is 'width'"])
    refused(lambda: flip(KEY, x, probability=2.0), ["probability is 2.0"])
    refused(lambda: crop(KEY, x, padding=-1), ["padding is -1"])
    refused(lambda: crop(KEY, x, size=(9, 4), padding=2), ["size is (9, 4)", "(8, 8)"])
    refused(lambda: noise(KEY, x, std=-0.1), ["std is -0.1"])
