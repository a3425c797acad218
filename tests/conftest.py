import jax
import pytest

import dlfn

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def x64():
    """Float64 for the duration of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def quick_compilation():
    """Without XLA's optimiser, which takes a third of the time: for tests in float64, which are not about what it does
    to rounding."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def refused():
    """Checks that a mistake is refused in one line, which says all of the parts."""

    def check(mistake, parts):
        with pytest.raises(dlfn.InputError) as caught:
            mistake()
        message = str(caught.value)
        assert "\n" not in message
        for part in parts:
            assert part in message

    return check
