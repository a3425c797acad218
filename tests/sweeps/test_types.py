"""The annotations of every op say what it takes and returns: beartype finds the arguments of all cases of the registry
and what the definition makes of them as jaxtyping has them, and a type checker finds wrong calls."""

import functools
import inspect

import beartype
import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from dlfn import ops
from dlfn.registry.all import entries
from helpers import lines_with_type_errors

# Where an int stands for a float, as in eps=1.
typechecker = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def checked(op):
    """The op's definition, which raises where arguments or result are not as annotated."""
    return jaxtyping.jaxtyped(typechecker=typechecker)(inspect.unwrap(op.definition))


@pytest.mark.parametrize("entry", [pytest.param(e, id=e.op.name) for e in entries()])
@pytest.mark.parametrize(
    ("dtype", "lead"),
    [
        ("bfloat16", (2, 3)),
        pytest.param("bfloat16", (), marks=pytest.mark.exhaustive),
        pytest.param("float32", (), marks=pytest.mark.exhaustive),
        pytest.param("float32", (2, 3), marks=pytest.mark.exhaustive),
    ],
)
def test_cases_are_as_annotated(entry, dtype, lead):
    parameters = inspect.signature(inspect.unwrap(entry.op.definition)).parameters.values()
    assert [p.name for p in parameters if p.annotation is p.empty] == []
    for case in entry.cases:
        f = functools.partial(checked(entry.op), **case.static)
        y = jax.eval_shape(f, *case.make(lead, dtype))
        assert len(jax.tree.leaves(y)) > 0


def test_a_scale_of_another_size_is_not_as_annotated():
    with pytest.raises(jaxtyping.TypeCheckError, match="scale"):
        checked(ops.rms_norm)(jnp.ones((2, 3)), jnp.ones(4))


WRONG = """\
import jax.numpy as jnp
from dlfn import ops

x = jnp.ones((2, 3))
ops.layer_norm(x, eps=1e-6)
ops.layer_norm(x, eps="1e-6")
ops.layer_norm(x, epsilon=1e-6)
ops.gelu("x")
ops.softmax(x, 0)
ops.sqrt(2.0).astype(int)
ops.sqrt(2.0).astipe(int)
"""


def test_a_type_checker_finds_wrong_calls(tmp_path):
    assert lines_with_type_errors(WRONG, tmp_path) == {6, 7, 8, 9, 11}
