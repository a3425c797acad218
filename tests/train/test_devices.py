"""Many devices, and several processes, train to what one device does."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import dlfn
from dlfn import nn, train
from dlfn.train import data
from dlfn.train.processes import join
from dlfn.weights import load_safetensors

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
MODELS = {
    "mlp": (
        nn.mlp((8, 8), 3),
        data.arrays(RNG.normal(size=(40, 4)).astype(np.float32), np.arange(40) % 3, test_fraction=0.2),
        "classification",
    ),
    "batch norm": (
        nn.Serial(nn.Linear(8, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Linear(3)),
        data.arrays(RNG.normal(size=(40, 4)).astype(np.float32), np.arange(40) % 3),
        "classification",
    ),
    "gpt": (
        nn.models.gpt(8, context=8, layers=1, heads=2, width=16),
        data.Dataset(data.Windows(RNG.integers(0, 8, 300).astype(np.uint8), 8, "text")),
        "next_token",
    ),
    # Whose biases XLA would divide by itself, though no rule does.
    "lstm": (
        nn.models.lstm(8, width=8),
        data.Dataset(data.Windows(RNG.integers(0, 8, 300).astype(np.uint8), 4, "text")),
        "next_token",
    ),
}


@functools.cache
def fitted(name, sizes):
    model, source, loss = MODELS[name]
    placement = train.Placement(*sizes)
    return train.fit(
        model, source, loss=loss, optimizer=optax.adam(1e-2), steps=20, batch_size=16, placement=placement, quiet=True
    )


def leaves_by_path(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree.leaves_with_path(tree)
    }


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("mlp", (8, 1, 1)), ("batch norm", (8, 1, 1)), ("gpt", (1, 4, 2)), ("lstm", (1, 4, 2)),
     pytest.param("mlp", (1, 4, 2), marks=pytest.mark.exhaustive),
     pytest.param("gpt", (8, 1, 1), marks=pytest.mark.exhaustive),
     pytest.param("gpt", (2, 2, 2), marks=pytest.mark.exhaustive)],
)  # fmt: skip
def test_parameters_and_state_are_those_of_one_device(name, sizes):
    result, one = fitted(name, sizes), fitted(name, (1, 1, 1))
    for a, b in ((result.params, one.params), (result.state, one.state)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), a, b)


def test_moments_are_divided_like_their_parameters():
    carry = fitted("gpt", (1, 4, 2)).carry
    params, moments = leaves_by_path(carry.params), leaves_by_path(carry.optimizer)
    found = 0
    for path, leaf in params.items():
        for name, moment in moments.items():
            if name.endswith((f"mu/{path}", f"nu/{path}")):
                assert moment.sharding.is_equivalent_to(leaf.sharding, leaf.ndim), path
                found += 1
    assert found == 2 * len(params)
    table = params["embedding/table"]
    assert table.addressable_shards[0].data.shape == (4, 4)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS is not set, and JAX_PROCESS_ID is"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID = 2: must be below JAX_NUM_PROCESSES = 2"),
        ({"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES = 'two': must be an integer"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID = '-1': must be an integer, 0 or more"),
        ({"JAX_NUM_PROCESSES": "0", "JAX_PROCESS_ID": "0"}, "must be below JAX_NUM_PROCESSES = 0"),
        (
            {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0", "JAX_COORDINATOR_ADDRESS": "here"},
            "JAX_COORDINATOR_ADDRESS = 'here': must be the host and port of the first process, as in 10.0.0.1:1234",
        ),
    ],
)
def test_processes_that_are_told_nonsense_say_so(environment, message, refused):
    if len(environment) == 2:
        environment = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", **environment}
    refused(lambda: join(environment), [message])


def test_one_process_joins_nothing():
    join({})
    join({"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0", "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"})
    join({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})


CONFIG = """
[model]
widths = [8]
[train]
steps = 20
batch_size = 16
save_every = 10
[optimizer]
name = "adam"
learning_rate = 1e-2
"""


def start(folder, environment, *overrides):
    root = str(Path(dlfn.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "JAX_NUM_CPU_DEVICES": "1", **environment}
    command = [sys.executable, "-m", "dlfn", "train", "many.toml", *overrides]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(processes):
    try:
        return [(*process.communicate(timeout=240), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def by_variables(address, number):
    return {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": number}


def by_slurm(address, number):
    """What SLURM sets for two tasks on one host. JAX makes the port, one of the last 4,096, from the job's number."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    return {**job, "SLURM_PROCID": number, "SLURM_LOCALID": number}


def of_two(folder, *overrides, told=by_variables):
    address = f"127.0.0.1:{free_port()}"
    return ended([start(folder, told(address, number), *overrides) for number in "01"])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("mesh", "told"),
    [({"data": 2}, by_variables), ({"data": 1, "fsdp": 2}, by_variables), ({"data": 1, "model": 2}, by_variables),
     ({"data": -1}, by_slurm)],
)  # fmt: skip
def test_two_processes_train_to_what_one_does_and_one_writes(mesh, told, tmp_path):
    (tmp_path / "many.toml").write_text(CONFIG)
    ((_, error, code),) = ended([start(tmp_path, {}, "run.folder=one")])
    assert code == 0, error
    overrides = ["run.folder=two", *(f"mesh.{axis}={size}" for axis, size in mesh.items())]
    (first, _, _), (second, _, _) = results = of_two(tmp_path, *overrides, told=told)
    assert [code for _, _, code in results] == [0, 0], results
    assert "trained to step 20" in first
    assert all(line.startswith("[Gloo]") for line in second.splitlines())
    one, two = (load_safetensors(tmp_path / name / "params.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for path, leaf in one.items():
        np.testing.assert_allclose(two[path], leaf, rtol=0, atol=1e-5)
    assert (tmp_path / "one" / "metrics.jsonl").read_text().count("\n") == (
        tmp_path / "two" / "metrics.jsonl"
    ).read_text().count("\n")
    again = of_two(tmp_path, *overrides, told=told)
    assert "is finished, after 20 steps" in again[0][0]


@pytest.mark.exhaustive
def test_bad_input_ends_every_process(tmp_path):
    (tmp_path / "many.toml").write_text(CONFIG)
    for _, error, code in of_two(tmp_path, "train.batch_size=15"):
        assert code == 2
        assert "train.batch_size = 15: must be a multiple of 2" in error


@pytest.mark.exhaustive
def test_all_processes_stop_after_the_same_step_though_one_is_asked_to(tmp_path):
    (tmp_path / "many.toml").write_text(CONFIG)
    overrides = ["train.steps=1000000", "train.save_every=0", "train.eval_every=0", "train.log_every=50"]
    address = f"127.0.0.1:{free_port()}"
    processes = [start(tmp_path, by_variables(address, number), *overrides) for number in "01"]
    metrics, deadline = tmp_path / "runs" / "many" / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    assert [code for _, _, code in ended(processes)] == [130, 130]
    (step,) = (path.name for path in (metrics.parent / "checkpoints").iterdir())
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == int(step)
