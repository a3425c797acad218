import contextlib
import functools
import gc
import itertools
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax._src import compiler  # there is no public way to set compiler options for all that a test compiles
from jax._src.interpreters import mlir

import dlfn

jax.config.update("jax_num_cpu_devices", 8)

collect_ignore = ["docs/_ext", "docs/build"]  # the site's extensions need Sphinx, which is in another group

# Tests and pages that take about a second or more, by `pytest --durations=0`, for any of their parameters, which are
# marked together; and those whose parameters take two seconds in all, but for the values and gradients of every op and
# the rules of every primitive.
SLOW = set(Path(__file__).with_name("tests").joinpath("slow.txt").read_text(encoding="utf-8").splitlines())


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.split("[")[0] in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """What is imported by now stays: without this, every collection of garbage walks all of it. And there are fewer of
    them, as tracing makes many objects that are soon gone by themselves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def reuse_contexts():
    """Programs are lowered in contexts of MLIR, which take 7 ms to make: ten share one, as they do from jax 0.12 on."""
    make, lowered = mlir.make_ir_context, itertools.count()

    @functools.lru_cache(maxsize=1)
    def context(thread, number):
        return make()

    mlir.make_ir_context = lambda: context(threading.get_ident(), next(lowered) // 10)


if not hasattr(mlir, "_create_ir_context"):
    reuse_contexts()


@pytest.fixture
def x64():
    """Float64 for the duration of a test."""
    with jax.enable_x64(True):
        yield


@functools.cache
def older_emitters_option():
    """XLA's compiler options for its older emitters of CPU code, where it still has them, whose programs it need not
    split to compile the parts at once: the tests do so already, in several processes."""
    options = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    try:
        jax.jit(jnp.sin).lower(1.0).compile(compiler_options=options)
    except Exception:  # newer versions refuse an option that they no longer know
        return {}
    return options


@contextlib.contextmanager
def by_older_emitters():
    options, original = older_emitters_option(), compiler.get_compile_options

    def with_options(*args, **kwargs):
        kwargs["env_options_overrides"] = {**options, **(kwargs.get("env_options_overrides") or {})}
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", with_options)
        yield


@contextlib.contextmanager
def not_optimised():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """The arrays that modules make when they are imported are examples alone."""
    with by_older_emitters(), not_optimised():
        return (yield)


@pytest.fixture
def older_emitters():
    """With XLA's older emitters, compilation takes less than half the time. Not for tests of what users' code rounds
    to; those must compile functions of their own, as JAX keeps what it has compiled for single operations."""
    with by_older_emitters():
        yield


@pytest.fixture
def quick_compilation(older_emitters):
    """Without XLA's optimiser too: a fifth of the time. For tests in float64, and those with room for a last digit."""
    with not_optimised():
        yield


@pytest.fixture(autouse=True)
def quick_examples(request):
    """The examples of docstrings and pages, which print few digits."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("quick_compilation")


@pytest.fixture
def optimised(quick_compilation):
    """With XLA's optimiser after all, where the tests of a file are quickly compiled: for one that runs for longer than
    it compiles, or whose results depend on the last digit."""
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def unaudited(monkeypatch):
    """A comparison that fails does not look for the rule that is wrong, which takes longer than the comparison itself:
    for tests of its verdict alone."""
    monkeypatch.setattr("dlfn.check.verdict._audited", lambda *_: None)


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
