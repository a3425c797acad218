"""What compare says of gradients that shipped wrong, and of the same mended."""

import pytest

import dlfn
from museum import EXHIBITS
from museum.exhibit import ORDINARY

pytestmark = pytest.mark.usefixtures("quick_compilation")

# A right rule is tried with every probe, which takes seconds: one of each room in every run, all exhaustively.
ALWAYS = {"Liger: total variation of equal distributions", "Theano: all to each of the largest", "jax: sinc near 0"}


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_wrong_gradients_are_found(exhibit):
    result = dlfn.compare(exhibit.wrong, probe=True, coordinates=0, **exhibit.options)(*exhibit.args)
    assert not result, result
    if exhibit.found == ORDINARY:
        assert result.failure is None
        assert exhibit.argument in [row.path for row in result.rows if not row.ok]
    else:
        assert all(row.ok for row in result.rows)
        assert result.failure.probe.startswith(f"{exhibit.found} in ")
        assert f"wrong at a probe, {exhibit.found}" in str(result)


@pytest.mark.parametrize(
    "exhibit",
    [
        pytest.param(exhibit, id=exhibit.name, marks=() if exhibit.name in ALWAYS else pytest.mark.exhaustive)
        for exhibit in EXHIBITS
    ],
)
def test_right_gradients_pass(exhibit):
    result = dlfn.compare(exhibit.right, probe=True, coordinates=0, **exhibit.options)(*exhibit.args)
    assert result, result
