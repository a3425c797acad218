"""The table of a model's layers."""

import jax
import jax.numpy as jnp
import pytest

from dlfn import nn


@pytest.fixture(scope="module")
def model():
    return nn.models.gpt(65, context=16, layers=3, heads=2, width=16)


TOKENS = jax.ShapeDtypeStruct((1, 16), jnp.int32)


def test_equal_blocks_that_follow_each_other_have_one_row(model):
    table = nn.summary(model, TOKENS)
    rows = {row.split()[0]: row for row in table.splitlines()}
    assert "3 × MultiHeadAttention" in rows["body/blocks/0-2/attention/attention"]
    assert not any("blocks/1/" in path for path in rows)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    assert rows["total"].split()[1] == f"{nn.count_parameters(params):,}"


def test_blocks_that_differ_have_rows_of_their_own():
    model = nn.Serial(*(nn.Serial(linear=nn.Linear(width), activation=nn.GELU()) for width in (4, 4, 4, 3)))
    table = nn.summary(model, jnp.ones((1, 4)))
    paths = [row.split()[0] for row in table.splitlines()[1:-1]]
    assert paths == ["0-2/linear", "0-2/activation", "3/linear", "3/activation"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_a_table_fits_the_terminal_and_cuts_no_name(model, width):
    lines = nn.summary(model, TOKENS, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert "parameters" in lines[0]
    column = lines[0].index(lines[0].split()[1])
    text = "".join(line[:column].strip() for line in lines)
    assert "body/blocks/0-2/attention/attention" in text


def test_a_table_with_room_is_that_without_a_bound(model):
    assert nn.summary(model, TOKENS, width=400) == nn.summary(model, TOKENS)
