#!/usr/bin/env python
"""Writes the README's table of speeds from the newest file in benchmarks, which `dlfn bench --json` wrote."""

import argparse
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
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


def newest():
    """The file of the newest date."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks").glob("*.json")]
    return max(files, key=lambda file: file["date"])


def table(report):
    """The table, with a line that says where and when."""
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


def page(report):
    """The README with the table of that report."""
    text = README.read_text(encoding="utf-8")
    part = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    assert len(part.findall(text)) == 1, f"{README} must have {BEGIN.strip()} and {END.strip()} once"
    return part.sub(lambda _: f"{BEGIN}\n{table(report)}\n{END}", text)


def _bytes(n):
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def main(argv=None):
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    README.write_text(page(newest()), encoding="utf-8")


if __name__ == "__main__":
    main()
