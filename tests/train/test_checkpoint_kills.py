"""No kill, at whatever moment of a save, loses a checkpoint that was whole."""

import pytest

from helpers import python

# Each child goes on from what the one before it has left, until it is killed. They are forked before JAX has a backend,
# so that only the first imports.
KILLED = """
import itertools, os, random, signal, sys, time
from pathlib import Path
import jax, numpy as np, orbax.checkpoint
from dlfn.train.checkpoints import Checkpoints

folder, done, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def tree(step):
    return {str(i): np.full(1000 * i, step) for i in range(1, 9)}

def tell(what, step):
    print(what, step, file=done.open("a"))

def child():
    checkpoints = Checkpoints(folder)
    step = 0
    if restored := checkpoints.restore(tree(0)):
        step = restored.step
        assert jax.tree.all(jax.tree.map(np.array_equal, restored.tree, tree(step)))
        assert restored.meta == {"position": step}
        assert all("cut short" in reason for _, reason in restored.skipped), restored.skipped
    tell("restored", step)
    for step in itertools.count(step + 1):
        checkpoints.save(step, tree(step), {"position": step}, score=-step)
        checkpoints.wait()
        tell("saved", step)

generator = random.Random(kills)
for kill in range(kills + 1):
    begun = done.read_text().count("\\n")
    process = os.fork()
    if process == 0:
        try:
            child()
        finally:
            os._exit(1)  # an error, which is printed
    while done.read_text().count("\\n") < begun + 2:
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    time.sleep(generator.uniform(0, 0.3))
    os.kill(process, signal.SIGKILL)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL
"""


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_a_kill_at_any_moment_loses_no_step_that_was_complete(tmp_path, kills):
    done = tmp_path / "done"
    done.touch()
    process = python(KILLED, tmp_path / "checkpoints", done, kills, JAX_NUM_CPU_DEVICES="1")
    try:
        assert process.wait(60 + 10 * kills) == 0
    finally:
        process.kill()
    last = 0
    for what, step in (line.split() for line in done.read_text().splitlines()):
        assert int(step) in ((last, last + 1) if what == "restored" else (last + 1,))
        last = int(step)
    assert done.read_text().count("restored") == kills + 1
