"""What follows the links of the built site; and what the site's own extensions make of pages."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere_are_found(tmp_path, capsys):
    links = loaded(ROOT / "scripts" / "site_links.py")
    (tmp_path / "a.html").write_text(
        '<h1 id="top1">A</h1><a href="b.html#here"></a><a href="#top1"></a><a href="https://jax.dev">JAX</a>'
        '<link rel="next" href="https://next"><img src="data:image/png;base64,AA==">'
    )
    (tmp_path / "b.html").write_text('<p id="here"></p><a href="a.html"></a>')
    assert links.main([str(tmp_path)]) == 0
    (tmp_path / "b.html").write_text(
        '<p id="there"></p><a href="c.html"></a><a href="#gone"></a><script src="https://cdn/x.js"></script>'
    )
    capsys.readouterr()
    assert links.main([str(tmp_path)]) == 1
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "a.html: b.html#here leads to no anchor",
        "b.html: #gone leads to no anchor",
        "b.html: c.html leads to no file",
        "b.html: https://cdn/x.js is loaded from the network",
    ]
    assert links.main([str(tmp_path / "empty")]) == 1


@pytest.fixture
def extension(monkeypatch):
    pytest.importorskip("sphinx", reason="the site's extensions need Sphinx, of the group docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    yield lambda name: __import__(name)
    for name in ("reference", "outside", "accuracy"):
        sys.modules.pop(name, None)


def test_every_public_name_is_in_the_reference_once(extension):
    import dlfn
    from dlfn import nn, ops

    text = "\n".join(text for _, text in extension("reference").pages())
    for room in (dlfn, ops, nn):
        for name in set(room.__all__) - {"nn", "ops", "initializers", "models"}:
            full = f"{room.__name__}.{name}"
            said = [line for line in text.splitlines() if line.startswith(".. ") and line.endswith(f":: {full}")]
            assert len(said) == 1 or (room is nn and name == "mlp"), full


def test_shapes_are_no_emphasis(extension):
    lines = ["Takes (*batch, n) and gives (*batch, m), *never* ``*x``.", "", ">>> f(*args)"]
    extension("reference").escape(None, "function", "f", None, None, lines)
    assert lines == [r"Takes (\*batch, n) and gives (\*batch, m), *never* ``*x``.", "", ">>> f(*args)"]


def test_signatures_are_as_they_are_written(extension):
    from dlfn import nn, ops

    signature = extension("reference").signature
    assert signature(None, "function", "", ops.celu) == (
        "(x: Float[ArrayLike, '*shape'], *, alpha: float=1.0)", "Float[Array, '*shape']"
    )  # fmt: skip
    assert signature(None, "class", "", nn.Linear)[0].startswith("(features: int")


def test_links_out_of_the_pages(extension):
    outside = extension("outside")
    source = ["[c](../CONTRIBUTING.md#the-site), [m](../tests/museum), [t](training.md)"]
    outside.rewrite(None, "museum", source)
    assert source == ["[c](/contributing.md#the-site), m (`tests/museum`), [t](training.md)"]
    with pytest.raises(FileNotFoundError, match="links to tests/nowhere"):
        outside.rewrite(None, "museum", ["[m](../tests/nowhere)"])
