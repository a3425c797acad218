"""Sources: what a step draws is a pure function, taken on the device as on the host; streams go on where they were."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn.train.data import Stream, arrays, stream
from dlfn.train.data.in_memory import Arrays, scaled
from dlfn.train.data.iterator_states import pack, unpack
from dlfn.train.data.source import batch_indices
from dlfn.train.data.windows import MappedWindows, Windows

TOKENS = np.random.default_rng(0).integers(0, 200, 50).astype(np.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 3, 3)).astype(np.uint8)
LABELS = np.arange(20, dtype=np.int32) % 4
SOURCES = {
    "arrays": Arrays({"x": IMAGES, "y": LABELS}),
    "bytes": Arrays((IMAGES, LABELS), scaled(IMAGES, True, 255)),
    "windows": Windows(TOKENS, 4),
    "mapped": MappedWindows(TOKENS, 4),
}


def batch_of(source, step, seed=3, start=0, stop=6):
    """That of one step, made in the compiled loop's way."""
    drawn = jax.tree.map(lambda a: a[step - start], source.draw(seed, start, stop, 5))
    return jax.tree.map(np.asarray, source.take(jax.tree.map(jnp.asarray, source.resident()), drawn))


def equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize("name", SOURCES)
def test_a_step_draws_the_same_whatever_else_is_drawn(name):
    source = SOURCES[name]
    batch = batch_of(source, 4)
    assert equal(batch, batch_of(source, 4, start=4, stop=5))
    assert not equal(batch, batch_of(source, 5))
    assert not equal(batch, batch_of(source, 4, seed=4))


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_alike_to_what_is_taken(name):
    source = SOURCES[name]
    rows = jax.tree.leaves(source.rows(0, source.size + 9))
    assert all(len(leaf) == source.size for leaf in rows)
    for row, taken in zip(rows, jax.tree.leaves(batch_of(source, 0)), strict=True):
        assert (row.shape[1:], row.dtype) == (taken.shape[1:], taken.dtype)


def test_images_are_bytes_on_the_device_and_standardised_in_the_batch():
    source = SOURCES["bytes"]
    assert source.resident()[0].dtype == np.uint8
    x, y = batch_of(source, 2)
    chosen = batch_indices(3, 2, 20, 5)
    assert np.array_equal(y, LABELS[chosen])
    np.testing.assert_allclose(x, (IMAGES[chosen] - IMAGES.mean()) / IMAGES.std(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(source.rows(0, 20)[0][chosen], x, rtol=3e-7)  # XLA may multiply where NumPy divides


def test_take_is_traced_once_for_all_steps():
    source, drawn = SOURCES["windows"], SOURCES["windows"].draw(0, 0, 3, 5)
    resident = jnp.asarray(source.resident())
    _, batches = jax.lax.scan(lambda carry, entry: (carry, source.take(resident, entry)), 0, drawn)
    assert batches.shape == (3, 5, 5)
    assert np.array_equal(batches, SOURCES["mapped"].draw(0, 0, 3, 5))


def test_windows_reach_the_last_token_and_each_is_a_part_of_the_text():
    drawn = MappedWindows(TOKENS, 4).draw(0, 0, 40, 25).reshape(-1, 5)
    parts = {tuple(TOKENS[i : i + 5]) for i in range(46)}
    assert {tuple(window) for window in drawn} == parts


def test_consecutive_windows_predict_every_token_once():
    source = Windows(TOKENS, 7)
    rows = source.rows(0, source.size)
    assert source.size == 7
    assert np.array_equal(rows[:, 1:].ravel(), TOKENS[1:])
    assert np.array_equal(rows[:, 0], TOKENS[:-1:7])


def test_a_pytree_of_examples_is_split_by_class():
    x = {"image": IMAGES, "number": np.arange(20.0)}
    data = arrays(x, LABELS, test_fraction=0.2, seed=1)
    assert data.info == {"outputs": 4}
    test_x, test_y = data.test.rows(0, 4)
    assert sorted(test_y) == [0, 1, 2, 3]
    assert np.array_equal(LABELS[test_x["number"].astype(int)], test_y)
    assert data.train.size == 16


def test_a_test_of_its_own_is_kept_as_it_is():
    data = arrays(np.ones((4, 2)), np.ones((4, 3)), test=(np.zeros((2, 2)), np.zeros((2, 3))))
    assert data.info == {"outputs": 3}
    assert data.test.rows(0, 9)[0].tolist() == [[0, 0], [0, 0]]
    assert arrays(np.ones((4, 2))).test is None


def numbers(count=7):
    return [(np.full((2, 3), i, np.float32), np.array([i, i])) for i in range(count)]


class Resumable:
    """An iterator like grain's: its state is bytes."""

    def __init__(self, count):
        self.next, self.count = 0, count

    def __iter__(self):
        return self

    def __next__(self):
        if self.next == self.count:
            raise StopIteration
        self.next += 1
        return numbers()[self.next - 1]

    def get_state(self):
        return json.dumps(self.next).encode()

    def set_state(self, state):
        self.next = json.loads(state)


class Loader:
    """A loader like torchdata's: its state is a dict, and is given before it is iterated."""

    def __init__(self):
        self.start = self.given = 0

    def __iter__(self):
        for given in range(self.start, 7):
            self.given = given + 1
            yield numbers()[given]
        self.start = 0

    def state_dict(self):
        return {"given": self.given, 0: (np.int64(self.given),)}

    def load_state_dict(self, state):
        assert state[0] == (state["given"],)
        self.start = state["given"]


STREAMS = {
    "list": numbers,
    "function": lambda: lambda: iter(numbers()),
    "grain": lambda: lambda: Resumable(7),
    "torchdata": Loader,
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("step", [3, 7, 9])
def test_a_stream_goes_on_where_a_checkpoint_was(name, step):
    source = Stream(STREAMS[name]())
    source.draw(0, 0, step, 2)
    position = json.loads(json.dumps(source.position()))
    x, y = source.draw(0, step, step + 8, 2)
    assert y[:, 0].tolist() == [i % 7 for i in range(step, step + 8)]
    resumed = Stream(STREAMS[name]())
    resumed.draw(0, 0, 1, 2)  # a run looks at the first batch before it resumes
    resumed.seek(position)
    assert equal(resumed.draw(0, step, step + 8, 2), (x, y))


def test_a_stream_with_a_state_draws_nothing_again():
    source = Stream(Resumable(7))
    source.seek({"step": 5, "state": pack(b"5")})
    assert source.draw(0, 5, 7, 2)[1].tolist() == [[5, 5], [6, 6]]


def test_the_last_draw_can_be_drawn_again_even_of_an_iterator():
    """A run looks at the first batch before it begins, and at others where a step went wrong."""
    source = Stream(iter(numbers()))
    first = source.draw(0, 0, 1, 2)[1]
    y = source.draw(0, 0, 4, 2)[1]
    assert y[:, 0].tolist() == [0, 1, 2, 3]
    assert np.array_equal(first, y[:1])
    assert np.array_equal(source.draw(0, 1, 3, 2)[1], y[1:3])
    assert source.draw(0, 3, 6, 2)[1][:, 0].tolist() == [3, 4, 5]
    assert source.position() == {"step": 6, "state": None}


def test_a_stream_goes_back_by_beginning_again():
    source = Stream(numbers())
    late = source.draw(0, 4, 6, 2)
    source.draw(0, 6, 7, 2)
    assert equal(source.draw(0, 4, 6, 2), late)


def test_what_streams_are_tested_on_is_kept_with_its_last_smaller_batch():
    data = stream(numbers(), test=[*numbers(2), (np.ones((1, 3), np.float32), np.array([9]))], info={"outputs": 10})
    assert data.test.size == 5
    assert data.test.rows(0, 5)[1].tolist() == [0, 0, 1, 1, 9]
    assert data.info == {"outputs": 10}


@pytest.mark.parametrize(
    ("batches", "parts"),
    [
        (3, ["a stream is an iterable", "int"]),
        (iter(numbers(2)), ["ended after 2 batches, and step 3", "give a function"]),
        ([], ["gives no batch"]),
        ([*numbers(2), (np.zeros((2, 4), np.float32), np.zeros(2, int))], ["step 3", "(batch, 4)", "(batch, 3)"]),
        ([*numbers(1), {"x": np.zeros((2, 3))}], ["step 2", "'x'"]),
        ([(np.zeros((3, 3)), np.zeros(3))], ["step 1 has 3 examples, and batch_size = 2"]),
        ([*numbers(1), (np.zeros((1, 3), np.float32), np.zeros(1, int))], ["step 2 has 1", "drop_last=True"]),
        ([(np.zeros((2, 3)), np.zeros(3))], ["step 1 has arrays of shapes (2, 3), (3,)", "first axes must agree"]),
        ([(np.zeros((2, 3)), 1.0)], ["step 1[1] is the single number 1.0"]),
        ([np.array(["a", "b"])], ["step 1 is of dtype <U1"]),
        ([()], ["step 1 has no examples"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value and isinstance(value[0], str) else "",
)
def test_streams_refuse(refused, batches, parts):
    refused(lambda: Stream(batches).draw(0, 0, 4, 2), parts)


def test_streams_refuse_to_go_back_on_an_iterator(refused):
    source = Stream(iter(numbers()))
    source.draw(0, 0, 2, 2)
    source.draw(0, 2, 3, 2)
    refused(lambda: source.draw(0, 1, 3, 2), ["is at step 3, and cannot go back to 1"])


def test_positions_are_refused_where_there_are_none(refused):
    refused(lambda: SOURCES["arrays"].seek({"step": 1, "state": None}), ["position in a stream", "Arrays has none"])
    refused(lambda: Stream(numbers()).seek(None), ["not of a run on a stream"])
    refused(lambda: Stream(numbers()).seek({"step": 1, "state": {"bytes": ""}}), ["state of a loader", "list takes"])
    refused(lambda: Stream(numbers()).rows(0, 1), ["stream(train, test)"])
    refused(lambda: stream(numbers(), test=[]), ["must be alike, and are none"])
    refused(lambda: stream([], test=[np.ones((2, 3)), np.ones((2, 4))]), ["float32 (batch, 3) and float32 (batch, 4)"])
    refused(lambda: pack({"rng": object()}), ["holds a object"])


def test_a_dataloader_of_pytorch(refused):
    torch = pytest.importorskip("torch")

    def loader(drop_last=True):
        examples = torch.utils.data.TensorDataset(torch.arange(14.0).reshape(7, 2), torch.arange(7))
        order = torch.Generator().manual_seed(0)
        return torch.utils.data.DataLoader(examples, 2, shuffle=True, generator=order, drop_last=drop_last)

    batches = loader()
    expected = [batch for _ in range(2) for batch in batches]  # two epochs
    x, y = Stream(loader()).draw(0, 0, 6, 2)
    assert (x.dtype, y.dtype, x.shape) == (np.float32, jnp.zeros((), int).dtype, (6, 2, 2))
    assert np.array_equal(y, np.stack([labels for _, labels in expected]))
    resumed = Stream(loader())
    resumed.seek({"step": 4, "state": None})
    assert np.array_equal(resumed.draw(0, 4, 6, 2)[1], y[4:])
    refused(lambda: Stream(loader(drop_last=False)).draw(0, 0, 4, 2), ["step 4 has 1 examples", "drop_last=True"])
    half = [torch.zeros(2, dtype=torch.bfloat16)]
    refused(lambda: Stream(half).draw(0, 0, 1, 2), ["step 1 cannot be made a NumPy array"])
    state = {"generator": torch.Generator().manual_seed(0).get_state()}
    again = unpack(json.loads(json.dumps(pack(state))))["generator"]
    assert torch.equal(again, state["generator"])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # by torchdata itself
def test_a_dataloader_of_torchdata_goes_on_by_its_state():
    torch = pytest.importorskip("torch")
    loaders = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader():
        examples = torch.utils.data.TensorDataset(torch.arange(8.0), torch.arange(8))
        order = torch.Generator().manual_seed(0)
        return loaders.StatefulDataLoader(examples, 2, shuffle=True, generator=order)

    goes_on_by_its_state(loader)


def test_a_dataloader_of_grain_goes_on_by_its_state():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    goes_on_by_its_state(lambda: grain.MapDataset.source(np.arange(8)).shuffle(seed=1).batch(2).to_iter_dataset())
    sampler = grain.samplers.IndexSampler(8, shuffle=True, seed=1, num_epochs=1)
    batch = grain.transforms.Batch(2, drop_remainder=True)
    goes_on_by_its_state(lambda: grain.DataLoader(data_source=np.arange(8), sampler=sampler, operations=[batch]))


def goes_on_by_its_state(loader):
    source = Stream(loader())
    source.draw(0, 0, 3, 2)
    position = json.loads(json.dumps(source.position()))
    assert position["state"] is not None
    rest = source.draw(0, 3, 4, 2)
    resumed = Stream(loader())
    resumed.draw(0, 0, 1, 2)
    resumed.seek(position)
    assert equal(resumed.draw(0, 3, 4, 2), rest)
