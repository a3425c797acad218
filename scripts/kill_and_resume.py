"""Kills ``dlfn train`` at random moments, saves among them, runs it again, and compares its end with that of a run
that was left alone: every number of the last checkpoint, bit by bit. Exits with 1 where they differ."""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from dlfn.train import load_config
from dlfn.train.checkpoints import Checkpoints
from dlfn.train.engine import make_loop
from dlfn.train.parts import make_parts

# Dropout, moving averages, parts of batches and Adam's moments: all that must come back. Most of the time it saves.
CONFIG = """
[model]
widths = [16]
keep_prob = 0.8
[train]
steps = 300
batch_size = 32
accumulate = 2
ema = 0.9
steps_per_dispatch = 2
log_every = 1
eval_every = 50
save_every = 4
[mesh]
data = 1
"""


def start(work: Path, folder: str) -> subprocess.Popen[bytes]:
    """The command, whose errors go to a file. Programs are compiled once for all of its runs."""
    root = str(Path(__file__).resolve().parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "JAX_COMPILATION_CACHE_DIR": str(work / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "dlfn", "train", "killed.toml", f"run.folder={folder}"]
    with open(work / f"{folder}.log", "ab") as log:
        return subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)


def unsealed(folder: Path) -> set[Path]:
    """The steps that are being written, or whose process was killed: their folders are there, but not their sums."""
    return {path for path in (folder / "checkpoints").glob("*") if not (path / "SHA256SUMS").exists()}


def kill(process: subprocess.Popen[bytes], folder: Path, moment: str, rng: random.Random) -> str | None:
    """Kills the run at the moment asked for, and returns what it was doing; None if it has ended before."""
    metrics, left = folder / "metrics.jsonl", unsealed(folder)
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    if moment == "anywhere":
        time.sleep(rng.uniform(0, 5))
    else:  # once it trains
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_mtime_ns != before):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 1))
        while moment == "in a save" and process.poll() is None and not unsealed(folder) - left:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.02))
    trains = metrics.exists() and metrics.stat().st_mtime_ns != before
    doing = "in a save" if unsealed(folder) - left else "between saves" if trains else "at the start"
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return doing


def leaves(work: Path, folder: str) -> dict[str, np.ndarray]:
    """All that the last checkpoint of a run holds."""
    loop = make_loop(**make_parts(load_config(work / folder / "config.toml")), quiet=True)
    with loop.placement.active():
        checkpoints = Checkpoints(work / folder / "checkpoints")
        found = checkpoints.restore({"carry": loop.begin(), "key": loop.key})
        checkpoints.close()
    assert found is not None
    tree = {"carry": found.tree["carry"], "key": jax.random.key_data(found.tree["key"]), "step": np.int64(found.step)}
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    rng, kills, resumed, runs = random.Random(arguments.seed), 0, 0, 0
    doings: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "killed.toml").write_text(CONFIG)
        if start(work, "left_alone").wait():
            print((work / "left_alone.log").read_text(), file=sys.stderr)
            return 1
        expected = leaves(work, "left_alone")
        while kills < arguments.kills:
            folder, ended = f"killed_{runs}", False
            while not ended:
                process = start(work, folder)
                moment = rng.choice(["anywhere", "training", "in a save"])
                doing = kill(process, work / folder, moment, rng) if kills < arguments.kills else None
                if doing is None and process.wait():
                    print((work / f"{folder}.log").read_text(), file=sys.stderr)
                    return 1
                if doing is not None:
                    kills += 1
                    doings[doing] = doings.get(doing, 0) + 1
                ended = doing is None
            runs += 1
            log = (work / f"{folder}.log").read_text()
            resumed += log.count("resumed at step")
            found = leaves(work, folder)
            different = [path for path, leaf in expected.items() if leaf.tobytes() != found[path].tobytes()]
            if different or found.keys() != expected.keys():
                print(f"{folder} differs in {different}\n{log}", file=sys.stderr)
                return 1
    where = ", ".join(f"{count} {doing}" for doing, count in sorted(doings.items()))
    print(
        f"{kills} kills ({where}) in {runs} runs, which went on from a checkpoint {resumed} times; "
        f"all {len(expected)} arrays of each end are those of the run that was left alone"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
