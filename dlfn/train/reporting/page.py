"""The page about runs."""

import json
import math
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlfn.markup import Markup, document, element, table
from dlfn.train.reporting.charts import Curve, heat, line_chart, number
from dlfn.train.reporting.outcomes import outcome
from dlfn.train.reporting.reading import Record, Series

__all__ = ["page_about"]

_LAYERS = "gradient_norm/"
_LOGARITHMIC = ("loss", "gradient norm", "update norm")
# After the loss and the task's metrics; the speed in examples or tokens says what that in steps does.
_ORDER = (
    "learning_rate",
    "gradient_norm",
    "update_norm",
    "examples_per_second",
    "tokens_per_second",
    "flop_utilisation",
)


def page_about(records: Sequence[Record], folder: Path) -> str:
    """The HTML of a page about runs that is written to this folder, with style and script in it."""
    style, script = (
        files("dlfn.train.reporting").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    # Without the script too, a box that is not ticked hides what is its run's alone; tables stay whole.
    runs = "".join(
        f".run-{i} {{ --run: var(--run-{i % 8}); }}\n"
        f"body:has(#run-{i}:not(:checked)) :is(.curve, .dots, .panel).run-{i} {{ display: none; }}\n"
        for i in range(len(records))
    )
    title = ", ".join(record.name for record in records)
    body = element(
        "main",
        element("header", element("h1", title), _legend(records)),
        _section("Results", [_results(records)]),
        _section("Curves", _curves(records), class_="charts"),
        *_by_run("Outputs", [outcome(i, record) for i, record in enumerate(records)], records),
        *_by_run("Gradient norms by layer", [_layers(record) for record in records], records),
        *([_section("Differences of the configurations", [_differences(records)])] if len(records) > 1 else []),
        *_by_run("Steps, explained", [_explained(record, folder) for record in records], records),
        _section("Configuration", [_configuration(i, record) for i, record in enumerate(records)]),
        _section("Environment", [_environment(records)]),
    )
    return document(title, body, style=f"{style}{runs}", scripts=[script])


def _explained(record: Record, folder: Path) -> list[Markup]:
    """Links to the pages that explain steps, in their order."""
    pages = sorted(record.folder.glob("explain/step_*.html"), key=lambda page: (len(page.name), page.name))
    links = [
        element("li", element("a", page.stem.replace("_", " "), href=quote(os.path.relpath(page, folder))))
        for page in pages
    ]
    return [element("ul", *links)] if links else []


def _section(title: str, children: Sequence[Markup], **attributes: Any) -> Markup:
    return element("section", element("h2", title), element("div", *children, **attributes))


def _by_run(title: str, contents: Sequence[Sequence[Markup]], records: Sequence[Record]) -> list[Markup]:
    parts = [
        element("div", element("h3", record.name, class_="swatch"), *content, class_=f"run-{i} panel")
        for i, (record, content) in enumerate(zip(records, contents))
        if content
    ]
    return [_section(title, parts, class_="panels")] if parts else []


def _legend(records: Sequence[Record]) -> Markup:
    boxes = []
    for i, record in enumerate(records):
        box = element("input", type="checkbox", id=f"run-{i}", checked=True)
        name = element("span", record.name, class_="swatch")
        boxes.append(element("label", box, name, style=f"--run:var(--run-{i % 8})"))
    dashes = element("span", "solid: training, dashed: test", class_="note")
    return element("fieldset", element("legend", "runs"), *boxes, dashes)


def _results(records: Sequence[Record]) -> Markup:
    names = list(dict.fromkeys(name for record in records for name in record.results))
    rows = [
        (
            element("span", record.name, class_=f"swatch run-{i}"),
            "finished" if record.finished else "not finished",
            f"{record.steps:,}",
            *(number(record.results[name]) if name in record.results else "" for name in names),
        )
        for i, record in enumerate(records)
    ]
    return table(("run", "state", "steps", *names), rows, class_="numbers")


def _curves(records: Sequence[Record]) -> list[Markup]:
    """Training and test in one chart; the loss first, then what the task measures."""
    names = list(dict.fromkeys(name for record in records for name in record.series))
    tasks = list(dict.fromkeys(name.split("/", 1)[1] for name in names if name.startswith(("train/", "test/"))))
    tasks.sort(key=lambda name: name != "loss")
    groups = {name: ((f"train/{name}", False), (f"test/{name}", True)) for name in tasks}
    groups |= {name.replace("_", " "): ((name, False),) for name in _ORDER if name in names}
    shown = []
    for title, members in groups.items():
        curves = []
        for i, record in enumerate(records):
            for name, test in members:
                if name in record.series:
                    called = record.name + (" test" if test else "")
                    curves.append(Curve(i, called, *record.series[name], test))
        shown.append(line_chart(title, curves, logarithmic=title in _LOGARITHMIC))
    return shown or [element("p", "there are no records yet", class_="note")]


def _layers(record: Record) -> list[Markup]:
    """A layer's norm is that of all its parameters together."""
    layers: dict[str, list[Series]] = {}
    for name, series in record.series.items():
        if name.startswith(_LAYERS):
            path = name.removeprefix(_LAYERS)
            layers.setdefault(path.rpartition("/")[0] or path, []).append(series)
    rows = []
    for layer, members in layers.items():
        squares: dict[int, float] = {}
        for steps, values in members:
            for step, value in zip(steps, values):
                squares[step] = squares.get(step, 0.0) + value**2
        rows.append((layer, list(squares), [math.sqrt(value) for value in squares.values()]))
    return [heat(rows)] if rows else []


def _differences(records: Sequence[Record]) -> Markup:
    keys = dict.fromkeys(key for record in records for key in record.configuration)
    rows = []
    for key in keys:
        values = [_written(record, key) for record in records]
        if key != "run.folder" and len(set(values)) > 1:
            rows.append((key, *values))
    if not rows:
        return element("p", "there are none", class_="note")
    return table(("key", *(element("span", r.name, class_=f"swatch run-{i}") for i, r in enumerate(records))), rows)


def _configuration(index: int, record: Record) -> Markup:
    rows = [(key, _written(record, key)) for key in record.configuration]
    summary = element("summary", element("span", record.name, class_="swatch"))
    return element("details", summary, table(("key", "value"), rows), class_=f"run-{index}")


def _written(record: Record, key: str) -> str:
    there = key in record.configuration
    return json.dumps(record.configuration[key], ensure_ascii=False, default=str) if there else "—"


def _environment(records: Sequence[Record]) -> Markup:
    """That of the last time that a run began or went on."""
    columns = []
    for record in records:
        last = dict(record.environments[-1]) if record.environments else {}
        step, starts = last.pop("step", 0), len(record.environments)
        last["starts"] = f"{starts}, the last from step {step:,}" if starts > 1 else starts
        columns.append(last | last.pop("versions", {}) if record.environments else {})
    keys = dict.fromkeys(key for column in columns for key in column)
    if not keys:
        return element("p", "the folders have no environment.jsonl", class_="note")
    rows = [(key, *(str(column.get(key, "—")) for column in columns)) for key in keys]
    return table(("", *(element("span", r.name, class_=f"swatch run-{i}") for i, r in enumerate(records))), rows)
