"""Entries of the ops in :mod:`dlfn.ops.normalisation.batch_norm`."""

from jax import lax

from dlfn import ops
from dlfn.registry.cases.normalisation._shared import evenly, of_flax, plain, size
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register, uniform


def _plain_batch(x, scale, bias):
    return plain(tuple(range(x.ndim - 1)), x, scale, bias)


def _plain_inference(x, mean, var, scale, bias):
    return (x - mean) * (lax.rsqrt(var + 1e-5) * scale) + bias


def _batch_oracle(torch, x, scale=None, bias=None, *, eps, stats_dtype=None):
    rows = x.reshape(-1, x.shape[-1])
    y = torch.nn.functional.batch_norm(rows, None, None, scale, bias, training=True, eps=eps)
    return y.reshape(x.shape), rows.mean(0), rows.var(0, unbiased=False)


def _inference_oracle(torch, x, mean, var, scale=None, bias=None):
    # PyTorch's own gives no gradients of the statistics.
    y = (x - mean) / torch.sqrt(var + 1e-5)
    return y if scale is None else y * scale + bias


def _batch_y(x, scale, bias):
    return ops.batch_norm(x, scale, bias)[0]


# With few rows in a batch and a small eps the gradient in x is the small difference of large numbers.
_EPS = {"eps": 1e-2}

register(
    Entry(
        ops.batch_norm,
        ("norm.batch",),
        (
            Case(lambda lead: (evenly(*lead, 5), normal(5), normal(5)), _EPS, oracle=_batch_oracle, terms=size,
                 scalar_rows=False, empty=False),
            Case(lambda lead: (evenly(*lead, 5), absent, absent), _EPS, "no parameters", _batch_oracle, size,
                 scalar_rows=False, empty=False),
            Case(lambda lead: (evenly(*lead, 3, 2, 4), normal(4), normal(4)), _EPS, "images", _batch_oracle, size,
                 empty=False),
        ),
        (
            Trap("a constant channel", ([[0.1, 1.0], [0.1, 3.0]], [1.0, 1.0], [5.0, 0.0]),
                 {0: [[0.5, -0.5], [0.5, 1.5]], 2: [2.0, 2.0]}, value=[5.0, -0.999995, 5.0, 0.999995, 0.1, 2.0, 0, 1]),
            Trap("one row, eps = 0", ([[3.0, 0.0]], [1.0, 1.0], [5.0, 6.0]), {0: [[1.0, 1.0]], 1: [0.0, 0.0]},
                 value=[5.0, 6.0, 3.0, 0.0, 0.0, 0.0], static={"eps": 0.0}),
        ),
        tuple(
            Bench(str(shape), (normal(*shape), normal(shape[-1]), normal(shape[-1])), {"plain": _plain_batch}, _batch_y,
                  memory=1.05, peers=of_flax("BatchNorm", use_running_average=False, epsilon=1e-5))
            for shape in ((1024, 512), (16, 28, 28, 64))
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.batch_norm_inference,
        ("norm.batch",),
        (
            Case(lambda lead: (evenly(*lead, 5), normal(5), uniform(0.5, 2.0, 5), normal(5), normal(5)),
                 oracle=_inference_oracle, terms=size),
            Case(lambda lead: (evenly(*lead, 5), normal(5), uniform(0.5, 2.0, 5), absent, absent),
                 name="no parameters", oracle=_inference_oracle, terms=size),
        ),
        (Trap("variance 0, eps = 0", ([2.0], [1.0], [0.0]), {0: [0.0], 1: [0.0], 2: [0.0]}, value=[0.0],
              static={"eps": 0.0}),),
        (
            Bench("(1024, 512)", (normal(1024, 512), normal(512), uniform(0.5, 2.0, 512), normal(512), normal(512)),
                  {"plain": _plain_inference}, memory=1.05),
        ),
    )
)  # fmt: skip
