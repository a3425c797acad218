"""What the models of runs make of their test data."""

import base64
import struct
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import nn
from dlfn.core import InputError
from dlfn.markup import Markup, element, table
from dlfn.train.data import Source
from dlfn.train.parts import make_data
from dlfn.train.reporting.charts import number, scatter
from dlfn.train.reporting.reading import Record
from dlfn.train.runs import Loaded, load

__all__ = ["outcome"]

_BATCH = 256
_MOST_CLASSES = 30
_MOST_POINTS = 1000
_IMAGES = 12
_SAMPLES, _LENGTH = 2, 400


def outcome(index: int, record: Record) -> list[Markup]:
    """Of one run: a confusion matrix, samples, reconstructions, or predictions beside targets, by its task; or the
    reason why there is none."""
    try:
        loaded = load(record.folder)
        task = loaded.config.task.name
        if task == "next_token":
            return _samples(loaded)
        shown = {"classification": _confusion, "regression": _predictions, "elbo": _reconstructions}.get(task)
        if shown is None:
            return [element("p", f"nothing is known of how to show the outputs of the task {task!r}", class_="note")]
        data = make_data(loaded.config)
        source, part = (data.train, "training") if data.test is None else (data.test, "test")
        return shown(index, loaded, source, part)
    except InputError as error:
        return [element("p", f"left out: {error}", class_="note")]


def _samples(loaded: Loaded) -> list[Markup]:
    info = loaded.info
    if "encode" not in info:
        return [element("p", "left out: the run knows no text for its tokens", class_="note")]
    begin = info["encode"]("\n" if "\n" in info.get("characters", "\n") else info["characters"][:1])
    prompt = jnp.tile(jnp.asarray(begin, jnp.int32), (_SAMPLES, 1))
    settings = {"key": jax.random.key(0), "temperature": 0.8}
    tokens = nn.generate(loaded.model, loaded.params, loaded.state, prompt, _LENGTH, **settings)
    about = element("p", f"drawn at temperature 0.8, {_LENGTH} tokens each", class_="note")
    return [about, *(element("pre", info["decode"](row)) for row in np.asarray(tokens))]


def _confusion(index: int, loaded: Loaded, source: Source, part: str) -> list[Markup]:
    outputs, labels = _outputs(loaded, source, source.size)
    classes = outputs.shape[-1]
    labels, guesses = np.ravel(labels), np.ravel(outputs.argmax(-1))
    names = loaded.info.get("labels") or [str(i) for i in range(classes)]
    counts = np.bincount(labels * classes + guesses, minlength=classes**2).reshape(classes, classes)
    totals, right = counts.sum(1), int(np.trace(counts))
    about = element(
        "p", f"{right:,} of {len(labels):,} {part} examples are right ({right / len(labels):.2%})", class_="note"
    )
    if classes > _MOST_CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        worst = np.argsort(-wrong, axis=None, kind="stable")[:20]
        rows = [(names[i // classes], names[i % classes], f"{wrong.flat[i]:,}") for i in worst if wrong.flat[i]]
        return [about, table(("class", "taken for", "times"), rows)]
    rows = []
    for i in range(classes):
        shares = counts[i] / max(1, totals[i])
        cells = [
            element(
                "td",
                f"{count:,}" if count else "",
                class_="right" if i == j else "wrong",
                style=f"--share:{100 * share:.0f}%",
            )
            for j, (count, share) in enumerate(zip(counts[i], shares))
        ]
        rows.append((names[i], *cells, f"{shares[i]:.1%}" if totals[i] else ""))
    return [about, table(("class ↓ taken for →", *names, "right"), rows, class_="confusion")]


def _predictions(index: int, loaded: Loaded, source: Source, part: str) -> list[Markup]:
    outputs, targets = _outputs(loaded, source, _MOST_POINTS)
    offset, unit = loaded.info.get("target_scale", (0.0, 1.0))
    name = loaded.info.get("target", "target")
    xs, ys = (np.ravel(a).astype(float) * unit + offset for a in (targets, outputs))
    error = np.abs(xs - ys).mean()
    about = element("p", f"{len(xs):,} {part} targets; the mean absolute error is {number(error)}", class_="note")
    return [about, scatter(f"predicted {name}", f"{name}", index, xs.tolist(), ys.tolist())]


def _reconstructions(index: int, loaded: Loaded, source: Source, part: str) -> list[Markup]:
    batch = source.rows(0, _IMAGES)
    x = batch[0] if isinstance(batch, tuple) else batch
    logits = jax.jit(lambda x: loaded.model.apply(loaded.params, loaded.state, x)[0].logits)(x)
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] != 1):
        return [element("p", f"left out: examples of shape {x.shape[1:]} are no grey images", class_="note")]
    about = element("p", f"{len(x)} {part} images, and below them what their codes give", class_="note")
    rows = (("image", np.asarray(x)), ("reconstruction", np.asarray(jax.nn.sigmoid(logits))))
    images = [
        element("img", src=_png(image), alt=f"{name} {i}")
        for name, images in rows
        for i, image in enumerate(images.reshape(x.shape[:3]), 1)
    ]
    return [about, element("div", *images, class_="images", style=f"--columns:{len(x)}")]


def _outputs(loaded: Loaded, source: Source, most: int | None) -> Any:
    """The model's outputs and the targets of so many examples."""
    if source.size is None:
        raise InputError("the run's data are a stream, and have no test part")
    apply = jax.jit(lambda x: loaded.model.apply(loaded.params, loaded.state, x)[0])
    stop, parts = min(source.size, most or source.size), []
    for start in range(0, stop, _BATCH):
        x, y = source.rows(start, min(start + _BATCH, stop))
        parts.append((np.asarray(apply(x)), y))
    return tuple(np.concatenate(part) for part in zip(*parts))


def _png(image: np.ndarray) -> str:
    """A grey image with entries from 0 to 1, as a URL that has it all."""
    height, width = image.shape
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels]).tobytes()  # each after the number of its filter, none

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()
