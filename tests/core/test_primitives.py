"""No primitive is silently flat: each that JAX's autodiff knows has a rule in backprop, or truly no derivative, or its
error."""

import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad

import dlfn
from dlfn.core import references
from dlfn.core.rules import RULES
from dlfn.core.walk import STRUCTURAL

# They register more primitives.
for module in ("jax.experimental.sparse", "jax.experimental.pallas", "jax.experimental.rnn", "jax.scipy.linalg"):
    importlib.import_module(module)

KNOWN = {primitive.name for table in (ad.primitive_jvps, ad.primitive_transposes) for primitive in table}

# Constant but where they jump, or whose numbers are not those of their argument. JAX has zeros for them, too.
FLAT = {
    "stop_gradient", "floor", "ceil", "round", "is_finite", "bitcast_convert_type", "eq", "ne", "lt", "le",
    "gt", "ge", "eq_to", "lt_to", "le_to", "and", "or", "xor", "not", "argmax", "argmin", "reduce_and", "reduce_or",
    "reduce_xor", "mulhi", "shift_left", "shift_right_arithmetic", "shift_right_logical", "random_bits",
    "random_fold_in", "random_seed", "random_split", "random_unwrap", "random_wrap",
}  # fmt: skip


def test_what_has_no_rule_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "checking.md").read_text(encoding="utf-8")
    table = page.split("## What backprop has no rule for")[1].split("Some rules are for a part")[0]
    named = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines() if row.count("|") == 3)))
    ruled = set(RULES) | set(STRUCTURAL) | references.PRIMITIVES
    assert KNOWN - ruled - named == set()
    assert named & ruled == set()


def test_jax_knows_as_many_primitives_as_were_counted():
    assert len(KNOWN) > 200


def test_flat_primitives_are_flat_in_jax_too():
    assert {name for name, rule in RULES.items() if rule is None} == FLAT
    rules = {primitive.name: rule for primitive, rule in ad.primitive_jvps.items()}
    zeros = {name for name, rule in rules.items() if getattr(rule, "func", rule).__name__ == "zero_jvp"}
    # Whose rule has another name; and logical operations, which JAX has none for.
    assert FLAT - zeros <= {"stop_gradient", "reduce_and", "reduce_or", "reduce_xor"}
    x = np.array([-1.5, 0.7, 2.2])
    np.testing.assert_array_equal(jax.jacobian(jax.lax.stop_gradient)(x), np.zeros((3, 3)))
    np.testing.assert_array_equal(dlfn.backprop(lambda x: jnp.sum(x * jnp.sign(x)))(x), jnp.sign(x))


@pytest.mark.parametrize("name", sorted(KNOWN - set(RULES) - set(STRUCTURAL) - references.PRIMITIVES))
def test_a_primitive_without_a_rule_is_an_error_with_the_line(name, refused):
    stand_in = Primitive(name)
    stand_in.def_impl(lambda x: x)
    stand_in.def_abstract_eval(lambda x: x)
    refused(lambda: dlfn.backprop(lambda x: jnp.sum(stand_in.bind(x)))(np.ones(2)), [repr(name), "test_primitives.py"])


def test_what_no_cotangent_comes_through_is_an_error(refused):
    stand_in = Primitive("flagged")
    stand_in.def_abstract_eval(lambda x: x.update(dtype=jax.dtypes.float0))
    f = lambda x: (jnp.sum(x), stand_in.bind(x))[0]  # noqa: E731
    refused(lambda: dlfn.backprop(f)(np.ones(2)), ["'flagged' makes a", "test_primitives.py"])


def test_state_that_is_not_a_reference_is_an_error(refused):
    hijax = pytest.importorskip("jax._src.hijax", reason="boxes are not public")
    if not hasattr(hijax, "Box"):
        pytest.skip("this jax has no boxes")

    def f(x):
        box = hijax.Box()
        box.set(x**2)
        return jnp.sum(box.get())

    refused(lambda: dlfn.backprop(f)(np.ones(2)), ["box", "jax.new_ref", "test_primitives.py"])


def test_nextafter_moves_with_its_argument():
    """Silently flat once: JAX before 0.11 has no rule for it."""
    gradient = dlfn.backprop(lambda x, y: jnp.sum(jnp.nextafter(x, y) * x), (0, 1))(np.float32(2), np.float32(5))
    np.testing.assert_allclose(gradient, [4, 0], rtol=1e-6)
