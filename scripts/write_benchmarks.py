#!/usr/bin/env python
"""Writes the tables of speeds from the newest files in benchmarks: the README's from what `dlfn bench --json` wrote on
a CPU, and that of docs/accelerators.md from what scripts/accelerators.py wrote on a GPU."""

import argparse
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- written by scripts/write_benchmarks.py -->\n", "<!-- end -->\n"

# What a reader decides by, the losses included: (op, case, baseline) as the rows of the file have them.
SHOWN = {
    "MLP 128 → 512 → 128 with GELU, (12, 64, 128)": ("linear", "MLP GELU", "plain"),
    "the same with biases": ("linear", "MLP GELU, biases", "plain"),
    "binary cross-entropy, (1024, 1024)": ("binary_cross_entropy", "(1024, 1024)", "optax"),
    "softplus": ("softplus", "default", "jax.nn"),
    "max pooling 3×3/2, (64, 56, 56, 64)": ("max_pool", "3×3/2 (64, 56, 56, 64)", "lax.reduce_window"),
    "transposed convolution 4×4/2, 64 → 32, (16, 28, 28)": ("conv_transpose", "4×4/2, 64 → 32, (16,28,28)", "lax"),
    "depthwise convolution 3×3, (16, 56, 56, 64)": ("conv", "depthwise 3×3, (16,56,56,64)", "lax"),
    "convolution 3×3, 64 → 64, (16, 28, 28)": ("conv", "3×3, 64 → 64, (16,28,28)", "lax"),
    "LSTM, T = 128": ("lstm", "T=128 B=8 H=128", "plain"),
    "GRU, T = 128": ("gru", "T=128 B=8 H=128", "plain"),
    "RNN, T = 128": ("rnn", "T=128 B=8 H=128", "plain"),
    "causal attention, (2, 1024, 8, 64)": ("attention", "causal (2, 1024, 8, 64)", "plain"),
    "the same, `jax.nn.dot_product_attention`": ("attention", "causal (2, 1024, 8, 64)", "jax.nn"),
    "linear and cross-entropy, 1024 × 256 → 32,000": ("linear_cross_entropy", "1024 × 256 → 32,000", "optax"),
    "8-layer transformer under `Repeat`": ("attention", "8-layer transformer", "plain scan"),
    "layer norm, (1024, 1024)": ("layer_norm", "(1024, 1024)", "plain"),
    "the same, Equinox's": ("layer_norm", "(1024, 1024)", "equinox"),
    "batch norm, (16, 28, 28, 64)": ("batch_norm", "(16, 28, 28, 64)", "plain"),
    "the same, Flax's one-pass form, which loses digits far from 0": ("batch_norm", "(16, 28, 28, 64)", "flax"),
    "softmax cross-entropy, (1024, 1000)": ("softmax_cross_entropy", "integer labels, (1024, 1000)", "optax"),
    "sigmoid": ("sigmoid", "default", "jax.nn"),
    "tanh": ("tanh", "default", "jax.nn"),
}

# The names of the baselines in words.
AGAINST = {
    "plain": "plain JAX", "lax": "`lax`", "lax.reduce_window": "`lax.reduce_window`", "jax.nn": "`jax.nn`",
    "optax": "optax", "plain scan": "autodiff of the same scan", "flax": "Flax", "equinox": "Equinox",
}  # fmt: skip


ON_GPU = {
    "causal attention, (4, 4096, 16, 128)": (
        "attention: (4, 4096, 16, 128) dlfn",
        {"`jax.nn`, cuDNN": "attention: (4, 4096, 16, 128) jax.nn cudnn",
         "`jax.nn`, XLA": "attention: (4, 4096, 16, 128) jax.nn xla",
         "PyTorch, cuDNN": "attention: PyTorch sdpa cudnn",
         "PyTorch, flash": "attention: PyTorch sdpa flash"},
    ),
    "causal attention, (16, 1024, 12, 64)": (
        "attention: (16, 1024, 12, 64) dlfn",
        {"`jax.nn`, cuDNN": "attention: (16, 1024, 12, 64) jax.nn cudnn"},
    ),
    "linear and cross-entropy, 8192 × 4096 → 131,072": (
        "cross_entropy: (8192, 4096, 131072) dlfn, chunk None",
        {"optax, all logits": "cross_entropy: (8192, 4096, 131072) optax, all logits",
         "PyTorch, all logits": "cross_entropy: PyTorch whole logits"},
    ),
    "GPT-2 small, 16 × 1024, loss and gradients": (
        "gpt: 16×1024, 12 layers dlfn",
        {"plain JAX with cuDNN's attention": "gpt: 16×1024, 12 layers plain JAX with cuDNN's attention",
         "PyTorch, eager": "gpt: PyTorch eager",
         "PyTorch, `torch.compile`": "gpt: PyTorch compile"},
    ),
    "the same, blocks checkpointed": ("gpt: 16×1024, 12 layers dlfn, checkpoint", {}),
    "the same, blocks written out (`unroll`)": ("gpt: 16×1024, 12 layers dlfn, unroll", {}),
    "LSTM, 64 × 256, 512 → 512": (
        "recurrences: lstm dlfn bfloat16",
        {"`lax.scan`": "recurrences: lstm, lax.scan bfloat16", "PyTorch": "lstm: PyTorch bfloat16"},
    ),
    "the same in float32 (TF32)": (
        "recurrences: lstm dlfn float32",
        {"`lax.scan`": "recurrences: lstm, lax.scan float32", "PyTorch": "lstm: PyTorch float32"},
    ),
    "GRU, 64 × 256, 512 → 512": ("recurrences: gru dlfn bfloat16", {}),
    "convolution 3×3, (128, 56, 56, 64)": (
        "convolutions: conv 3×3 (128, 56, 56, 64) dlfn",
        {"`lax`": "convolutions: conv 3×3 (128, 56, 56, 64) lax"},
    ),
    "bottleneck block with batch norm, (128, 56, 56, 256)": (
        "convolutions: bottleneck dlfn",
        {"PyTorch, channels last": "block: PyTorch channels_last"},
    ),
    "max pooling 2×2, (128, 56, 56, 64)": (
        "elementwise: max_pool bfloat16 dlfn",
        {"`lax.reduce_window`": "elementwise: max_pool bfloat16 lax"},
    ),
    "softmax cross-entropy, (8192, 4096)": (
        "elementwise: softmax_cross_entropy bfloat16 dlfn",
        {"autodiff": "elementwise: softmax_cross_entropy bfloat16 autodiff"},
    ),
    "layer norm, (8192, 4096)": (
        "elementwise: layer_norm bfloat16 dlfn",
        {"autodiff": "elementwise: layer_norm bfloat16 autodiff"},
    ),
    "embedding, 16,384 ids of 50,304": (
        "elementwise: embedding bfloat16 dlfn",
        {"indexing": "elementwise: embedding bfloat16 indexing"},
    ),
    "GELU, (8192, 4096)": (
        "elementwise: gelu bfloat16 dlfn",
        {"`jax.nn`": "elementwise: gelu bfloat16 jax.nn"},
    ),
    "softmax, (8192, 4096)": (
        "elementwise: softmax bfloat16 dlfn",
        {"`jax.nn`": "elementwise: softmax bfloat16 jax.nn"},
    ),
}  # fmt: skip


def newest(kind):
    """The file of the newest date among those of a kind of device, "cpu" or "h100"."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks").glob(f"*-{kind}.json")]
    return max(files, key=lambda file: file["date"])


def gpu_table(report):
    """Milliseconds and megabytes, before, now, and of others."""

    def cell(row):
        return f"{row['ms']:.3g} ms, {_bytes(1e6 * row['temporary_mb'])}" if row else ""

    others = {**report["rows"], **report.get("peers", {})}  # the script itself times JAX alone
    before = report.get("before", {})
    lines = [
        f"Forward and backward together, with the temporary memory of the program, bfloat16, {report['device']}, "
        f"jax {report['jax']}, PyTorch {report.get('torch', '–')}, {report['date']}:",
        "",
        "| | before | dlfn | others |",
        "|---|---|---|---|",
    ]
    for label, (name, against) in ON_GPU.items():
        peers = "; ".join(f"{who} {cell(others[key])}" for who, key in against.items() if key in others)
        lines.append(f"| {label} | {cell(before.get(name))} | {cell(report['rows'][name])} | {peers} |")
    return "\n".join([*lines, ""])


def cpu_table(report):
    """Speeds against baselines, with a line that says where and when."""
    rows = {(row["op"], row["case"], row["baseline"]): row for row in report["rows"]}
    lines = [
        f"Forward and backward together, float32, {report['cores']} CPU cores ({report['processor']}), "
        f"dlfn {report['dlfn']}, jax {report['jax']}, {report['date']}:",
        "",
        "| | against | times as fast [quartiles] | memory, theirs → dlfn's |",
        "|---|---|---|---|",
    ]
    for label, key in SHOWN.items():
        row = rows[key]
        speed = f"{row['speedup']:.2f} [{row['speedup_low']:.2f}, {row['speedup_high']:.2f}]"
        memory = " → ".join(_bytes(row[name]) for name in ("baseline_temp_bytes", "temp_bytes"))
        lines.append(f"| {label} | {AGAINST[key[2]]} | {speed} | {memory} |")
    return "\n".join([*lines, ""])


TABLES = {"README.md": ("cpu", cpu_table), "docs/accelerators.md": ("h100", gpu_table)}


def page(name):
    """A page with the table of the newest report."""
    kind, table = TABLES[name]
    text = (ROOT / name).read_text(encoding="utf-8")
    part = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    assert len(part.findall(text)) == 1, f"{name} must have {BEGIN.strip()} and {END.strip()} once"
    return part.sub(lambda _: f"{BEGIN}\n{table(newest(kind))}\n{END}", text)


def _bytes(n):
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def main(argv=None):
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    for name in TABLES:
        (ROOT / name).write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
