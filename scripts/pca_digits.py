#!/usr/bin/env python
"""Principal components of handwritten digits: a plot of the images in the plane of the first two, of the variance
that the components explain, and of what is left of an image with few of them."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from dlfn.linalg import PCA
from dlfn.train.data import digit_images
from scripts._example import pyplot, require, save, with_plot


def plot(path, x, labels, pca):
    figure = pyplot().figure(figsize=(12, 6.2), layout="constrained")
    plane, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    axes = plane.subplots()
    z = np.asarray(pca.transform(x))[:, :2]
    colours = pyplot().get_cmap("tab10").colors
    for digit in range(10):
        of_digit = z[labels == digit]
        axes.scatter(*of_digit.T, s=9, color=colours[digit], alpha=0.55, linewidths=0, label=str(digit))
    for digit in range(10):
        axes.text(
            *np.median(z[labels == digit], axis=0), str(digit), color=colours[digit], fontsize=19, weight="bold",
            ha="center", va="center", bbox=dict(boxstyle="circle,pad=0.15", fc="white", ec=colours[digit], alpha=0.9),
        )  # fmt: skip
    share = np.asarray(pca.explained_variance_ratio)
    axes.set(
        title=f"{len(x):,} digits in the plane of the first two components",
        xlabel=f"component 1 ({share[0]:.1%} of the variance)",
        ylabel=f"component 2 ({share[1]:.1%})",
        aspect="equal",
    )

    above, below = right.subfigures(2, 1, height_ratios=(1.2, 1))
    axes = above.subplots()
    axes.plot(np.arange(len(share) + 1), np.concatenate([[0], np.cumsum(share)]), color="black")
    axes.set(title="variance explained", xlabel="components", ylabel="share", xlim=(0, len(share)), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    counts = (2, 5, 10, 20, 64)
    for k in counts[:-1]:
        axes.plot(k, share[:k].sum(), "o", color="tab:red")
        axes.annotate(f"{k}: {share[:k].sum():.0%}", (k + 1.5, share[:k].sum() - 0.05), color="tab:red", fontsize=9)
    chosen = [int(np.flatnonzero(labels == digit)[0]) for digit in (3, 7)]
    for row, places in zip(chosen, below.subplots(len(chosen), len(counts)), strict=True):
        for k, place in zip(counts, places, strict=True):
            few = np.asarray(pca.transform(x[row])).copy()
            few[k:] = 0
            place.imshow(np.asarray(pca.inverse_transform(few)).reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            place.set(xticks=[], yticks=[])
            if row == chosen[0]:
                place.set_title(f"{k} of 64" if k < 64 else "all 64", fontsize=10)
    below.suptitle("images put together again from their first components", fontsize=12)
    save(figure, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    arguments = with_plot(parser, argv, "pca_digits", "plane, variance and images")
    require(parser, "the comparison", "scikit-learn", "sklearn")
    from sklearn import decomposition

    images, labels = digit_images()
    x = images.reshape(-1, 64).astype(float)
    with jax.enable_x64(True):
        pca = PCA.fit(x)
        theirs = decomposition.PCA(svd_solver="full").fit(x)
        apart = np.max(np.abs(np.asarray(pca.components)[:10] - theirs.components_[:10]))
        total = np.cumsum(pca.explained_variance_ratio)
        print(f"{len(x)} images of 64 pixels; first ten components {apart:.1e} from scikit-learn's")
        for k in (1, 2, 5, 10, 20, 40):
            print(f"{k:3d} components explain {total[k - 1]:.1%} of the variance")
        plot(arguments.plot, x, labels, pca)
    return 0


if __name__ == "__main__":
    sys.exit(main())
