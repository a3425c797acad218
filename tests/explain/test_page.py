"""The page of an explanation in a browser: what it shows, by pointer, by keyboard and by itself."""

import json
import re
from importlib import resources

import pytest
import samples

import dlfn
from browser import drive
from dlfn.explain.page import render

SCRIPT = "</script><script>document.title = 'run'</script><!--"
KIT = """
const all = (selector) => [...document.querySelectorAll(selector)];
const text = (selector) => document.querySelector(selector).textContent;
const cards = () => all(".card");
const card = (name) => cards().find((each) => each.querySelector("b").textContent === name);
const press = (key) =>
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const chosen = () => document.querySelector('.card[aria-pressed="true"] b').textContent;
"""  # fmt: skip


def test_a_step_shows_its_numbers_and_where_its_delta_comes_from(tmp_path):
    script = """
    const begin = [cards().length, chosen(), all("math").length > 3, all(".temml-error").length];
    card("h").click();
    const clicked = [chosen(), text(".details"), all(".edge.flow").map((each) => each.dataset.edge)];
    card("h").focus();
    press("ArrowRight");
    const right = [chosen(), document.activeElement.querySelector("b").textContent];
    press("Home");
    const home = chosen();
    all(".details .link").find((each) => each.textContent === "h").click();
    document.querySelector("header button").click();
    return {begin, clicked, right, home, link: chosen(), theme: document.documentElement.dataset.theme};
    """
    found = drive(tmp_path, render(samples.chain()), KIT + script)
    assert found["begin"] == [7, "L", True, 0]
    name, details, flow = found["clicked"]
    assert name == "h"
    for part in (
        "1.25",
        "2.8125",
        "It is used once; δ is what comes back from ŷ, by its backward rule",
        "h = linear(…)",
    ):
        assert part in details
    assert flow == ["4→5"], "its δ comes along the edge to its user"
    assert (found["right"], found["home"], found["link"], found["theme"]) == (["ŷ", "ŷ"], "w₁", "h", "dark")


def test_an_explanation_has_a_page(tmp_path):
    def loss(w, b, x, y):
        h = w * x + b
        y_hat = h**2
        return (y_hat - y) ** 2

    found = dlfn.explain(loss)(0.5, 0.25, 2.0, 1.0)
    found.to_html(tmp_path / "explained.html")
    script = """
    document.querySelectorAll(".card")[0].click();
    const wrong = all(".temml-error").length;
    return [cards().map((each) => each.querySelector("b").textContent), text(".details"), wrong];
    """
    names, details, wrong = drive(tmp_path, (tmp_path / "explained.html").read_text("utf-8"), KIT + script)
    assert (names[0], names[-1], wrong) == ("w", "result", 0)
    assert {"b", "x", "y", "h"} <= set(names)
    assert "5.625" in details
    assert "gradient" in details


def test_play_walks_the_backward_pass(tmp_path):
    script = """
    const play = document.querySelector(".play");
    play.click();
    const told = [];
    const reached = () => all(".reached").length;
    const seen = [[reached(), play.getAttribute("aria-pressed")]];
    await wait(1700);
    seen.push([reached(), chosen()]);
    play.click();
    await wait(5000);
    seen.push([reached(), chosen()]);
    const speed = document.querySelector("select");
    speed.value = "4";
    play.click();
    await wait(20000);
    seen.push([reached(), play.getAttribute("aria-pressed")]);
    return {seen, said: text(".said"), role: document.querySelector(".said").getAttribute("role")};
    """
    found = drive(tmp_path, render(samples.chain()), KIT + script)
    assert found["seen"] == [[0, "true"], [1, "L"], [1, "L"], [7, "false"]]
    assert found["said"] == "7 of 7: δ of w₁, 5.625, comes from h."
    assert found["role"] == "status"


def test_layers_and_repeated_blocks_fold(tmp_path):
    script = """
    const names = () => cards().map((each) => each.querySelector("b").textContent);
    const begin = names();
    card("blocks ×12").focus();
    card("blocks ×12").click();
    press("+");
    const blocks = names();
    card("3").click();
    all(".details button").find((each) => each.textContent === "unfold").click();
    const one = names().length;
    all(".fold").find((each) => each.textContent.includes("3")).click();
    card("3").click();
    all(".details .facts .link").find((each) => each.textContent === "z").click();
    const inside = [chosen(), text(".details h2")];
    all(".details button").find((each) => each.textContent === "show it in the graph").click();
    return {begin, blocks, one, inside, shown: [chosen(), names().length], verdict: text(".verdict")};
    """
    found = drive(tmp_path, render(samples.transformer(width=8)), KIT + script)
    assert found["begin"] == ["tokens", "blocks ×12", "loss"]
    assert found["blocks"] == ["tokens", *map(str, range(12)), "loss"]
    assert found["one"] == 14 + 3, "attention, residual, feedforward and residual in the place of the block"
    assert found["inside"] == ["3", "z linear"]
    assert found["shown"] == ["z", 17], "its own part of the block is open"
    assert "neither vanishes nor explodes" in found["verdict"]


def test_a_loop_has_a_slider_and_its_delta_through_time(tmp_path):
    script = """
    card("h").click();
    const slide = (value) => {
      const input = document.querySelector(".details input[type=range]");
      input.focus();
      input.value = value;
      input.dispatchEvent(new Event("input"));
      return [text(".details output"), text(".details .pair"), document.activeElement.type];
    };
    const verdicts = all(".verdict").map((each) => each.textContent);
    return {ends: [slide(0), slide(49)], verdicts, carried: all(".carried").length};
    """
    data = samples.loop()
    found = drive(tmp_path, render(data), KIT + script)
    (first, before, focus), (last, after, _) = found["ends"]
    assert (first, last, focus) == ("0 of 49", "49 of 49", "range")
    assert before != after
    assert any("through time in h" in verdict and "It vanishes." in verdict for verdict in found["verdicts"])
    assert found["carried"] == 1


@pytest.mark.parametrize(
    ("gain", "word"), [(0.1, "It vanishes."), pytest.param(60.0, "It explodes.", marks=pytest.mark.exhaustive)]
)
def test_vanishing_and_exploding_are_said(tmp_path, gain, word):
    data = samples.layers(8, gain=gain, title="deep", squash=gain < 1)
    found = drive(tmp_path, render(data), KIT + "return all('.verdict.bad').map((each) => each.textContent);")
    assert len(found) == 1
    assert word in found[0]


def test_numbers_that_are_not_finite_are_named(tmp_path):
    data = samples.layers()
    step = next(step for step in data["steps"] if step["name"] == "z_2")
    step["outputs"][0]["value"] |= {"nonfinite": 1, "data": [["inf", 1.0, 2.0, 3.0]], "norm": "inf", "max": "inf"}
    found = drive(tmp_path, render(data), KIT + "card('z_2').click(); return [text('.verdict'), text('.details')];")
    assert "The first value that is not finite is that of z_2" in found[0]
    assert "1 not finite" in found[1]


def test_text_of_users_is_shown_and_not_run(tmp_path):
    data = samples.layers(1, title=SCRIPT, name=SCRIPT)
    for step in data["steps"]:
        step["name"] = step["reason"] = SCRIPT
        step["source"] = {"file": SCRIPT, "line": 1, "code": f"x = 1  # {SCRIPT}"}
        step["equation"] = rf"\text{{{SCRIPT}}} \href{{javascript:alert(1)}}{{x}}"
    page = render(data)
    assert page.count("<script") == 4, "the data, two libraries and our own"
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page) == []
    script = "return [document.title, text('h1'), text('.card b'), text('pre'), all('a').length, text('.names')];"
    title, heading, name, source, links, group = drive(tmp_path, page, KIT + script)
    assert (title, heading, name, source, links) == (SCRIPT, SCRIPT, SCRIPT, f"x = 1  # {SCRIPT}", 0)
    assert group == f"− {SCRIPT}1"


@pytest.mark.parametrize(("width", "theme"), [(500, "light"), (1600, "dark")])
def test_axe_finds_nothing_serious(tmp_path, width, theme):
    pytest.importorskip("axe_core_python", reason="no axe-core-python, which brings axe: it is in the group tests")
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    script = f"""
    document.documentElement.dataset.theme = "{theme}";
    card("h").click();
    document.querySelector(".play").click();
    await wait(2000);
    document.querySelector(".play").click();
    const {{violations, passes}} = await axe.run();
    const wrong = violations.filter(({{impact}}) => ["serious", "critical"].includes(impact));
    const wide = document.documentElement.scrollWidth - innerWidth;
    return {{wide, passes: passes.length, violations: wrong.map(({{id, nodes}}) => [id, nodes[0].html])}};
    """
    found = drive(tmp_path, render(samples.loop()), f"{axe};{KIT}{script}", f"--window-size={width},900")
    assert found["violations"] == []
    assert found["passes"] > 20
    assert found["wide"] <= 0, "nothing reaches beyond the window"


def test_each_array_is_written_once():
    data = samples.layers()
    page = render(data)
    found = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    arrays = [json.dumps(array) for array in found["arrays"]]
    assert len(arrays) == len(set(arrays))
    (w,) = (step for step in found["steps"] if step["name"] == "W_1")
    assert w["parameters"][0]["gradient"] == w["outputs"][0]["delta"] == w["terms"][0]["value"]
