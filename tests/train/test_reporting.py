"""The page about runs: what it shows, that nothing in it is run, and that a browser agrees."""

import json
import re

import numpy as np
import pytest

from browser import browse
from dlfn import train
from dlfn.markup import element
from dlfn.train.reporting.charts import Curve, heat, line_chart
from dlfn.train.reporting.reading import read_runs

SCRIPT = "<script>document.title = 'run'</script>"
CONFIG = f'seed = 1\n[model]\nname = "{SCRIPT}"\n'


def write_run(folder, steps=3, config=CONFIG, **more):
    """What a run leaves, of a configuration that no model can be made of."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    lines = [
        {"step": i, "train/loss": 1 / i, "test/loss": None, "gradient_norm/a/w": 3.0, "gradient_norm/a/b": 4.0, **more}
        for i in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_text_of_runs_is_shown_and_not_run(tmp_path):
    folder = write_run(tmp_path / "<img src=x onerror=alert(1)>", **{f"train/{SCRIPT}": 1.0})
    (folder / "environment.jsonl").write_text(json.dumps({"step": 0, "devices": SCRIPT}) + "\n")
    page = train.report(folder).read_text()
    assert page.count("<script") == 1
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 4  # the model's name, the metric, the device, and the reason for no outputs
    assert re.findall(r"(?:src|href|url)\W+(?:https?:)?//", page) == []
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_runs_are_beside_each_other(tmp_path):
    first = write_run(tmp_path / "a" / "run")
    second = write_run(tmp_path / "b" / "run", config=CONFIG.replace("1", "2"))
    page = train.report([first, second], tmp_path / "page.html").read_text()
    text = re.sub(r"<[^>]*>", "|", page)
    assert "a/run, b/run" in text
    assert re.search(r"seed\|+1\|+2\|", text)
    assert re.search(r"\|a\|+5\|", text), "the norm of a layer is that of all its parameters"
    assert "left out: model.name = " in text


def test_a_run_at_work_can_be_shown_and_a_damaged_one_is_named(tmp_path, refused):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')
    (record,) = read_runs([folder])
    assert (record.steps, record.finished, record.results) == (3, False, {"train/loss": 1 / 3})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n")
    refused(lambda: train.report(folder), ["metrics.jsonl", "line 4", "no JSON"])
    refused(lambda: train.report([]), ["runs are empty"])
    refused(lambda: train.report(tmp_path / "none"), ["none", "holds no run"])


def test_a_run_of_fit_has_a_page(tmp_path):
    page = train.report(write_run(tmp_path / "run", config="seed = 1\nsteps = 3\n")).read_text()
    assert "holds a run of dlfn.train.fit, whose model is in no configuration" in page


def test_a_run_without_records_has_a_page(tmp_path):
    page = train.report(write_run(tmp_path / "run", steps=0)).read_text()
    assert "there are no records yet" in page


def test_long_curves_keep_their_peaks():
    values = np.ones(10_000)
    values[[1234, 5678]] = 100, 0.01
    chart = line_chart("loss", [Curve(0, "a", range(10_000), values.tolist())], logarithmic=True)
    data = json.loads(re.search(r'data-curves="(.*?)"', chart)[1].replace("&quot;", '"'))["curves"][0]
    assert len(data["steps"]) < 500
    assert (max(data["values"]), min(data["values"]), data["steps"][-1]) == (100, 0.01, 9999)
    assert "(logarithmic)" in chart


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [-1e-9, 1e-9], [1e-30, 1e30], [-5.0, 1e7]])
def test_any_finite_values_have_axes(values):
    chart = line_chart("loss", [Curve(0, "a", range(len(values)), values)], logarithmic=True)
    assert "nan" not in chart
    assert 2 <= chart.count('class="y"') <= 14
    assert "nan" not in heat([("layer", range(1, len(values) + 1), values)])


def test_markup_escapes_children_and_attributes():
    assert element("p", "<", title='"') == '<p title="&quot;">&lt;</p>'


def test_a_browser_shows_the_page_and_asks_for_nothing_else(tmp_path):
    train.report([write_run(tmp_path / "a"), write_run(tmp_path / "<b>")], tmp_path / "page.html")
    found = browse(tmp_path)
    assert found.asked == ["/page.html"]
    assert found.console == [], "an error, or something that the page's policy forbids"
    assert "<title>a, &lt;b&gt;</title>" in found.dom
    assert found.dom.count('class="tip"') == found.dom.count('class="chart"') > 0, "the script has not run"
