"""Explanations made by hand, by a tape in NumPy: what a page has to show, and no JAX to wait for."""

import numpy as np


def summary(values, per_step=False):
    """An array as the page's data have it."""
    values = np.asarray(values, float)
    flat = values.ravel()
    finite = flat[np.isfinite(flat)]
    kept = finite if finite.size else np.zeros(1)
    found = {
        "shape": list(values.shape), "min": kept.min(), "max": kept.max(), "mean": kept.mean(), "std": kept.std(),
        "norm": float(np.linalg.norm(kept)), "zeros": int((flat == 0).sum()), "nonfinite": flat.size - finite.size,
        "data": None, "histogram": None, "image": None, "over_steps": None,
    }  # fmt: skip
    if flat.size <= 1024:
        found["data"] = np.vectorize(lambda v: v if np.isfinite(v) else str(v), otypes=[object])(values).tolist()
    else:
        counts, edges = np.histogram(kept, 32)
        found["histogram"] = {"edges": edges.tolist(), "counts": counts.tolist()}
        matrix = values.reshape(-1, values.shape[-1])
        rows, columns = (np.array_split(np.arange(n), min(n, 48)) for n in matrix.shape)
        pooled = [[float(matrix[np.ix_(r, c)].mean()) for c in columns] for r in rows]
        found["image"] = {"rows": len(rows), "columns": len(columns), "data": pooled, "pooled": max(matrix.shape) > 48}
    if per_step:
        found["over_steps"] = [float(np.linalg.norm(step)) for step in values]
        kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), 64)).round().astype(int)).tolist()
        found |= {"kept": kept, "per_step": [summary(values[i]) for i in kept], "data": None}
    return {key: float(v) if isinstance(v, np.floating) else v for key, v in found.items()}


class Tape:
    """Steps with their values, and then, from the last back to the first, their δ's."""

    def __init__(self, title):
        self.title, self.steps, self.values, self.back = title, [], [], []
        self.groups, self.loops, self.group = [], [], None

    def enter(self, label):
        parent = self.group
        name = label if parent is None else f"{self.groups[parent]['name']}/{label}"
        self.groups.append({"id": len(self.groups), "name": name, "label": label, "parent": parent})
        self.group = len(self.groups) - 1

    def leave(self):
        self.group = self.groups[self.group]["parent"]

    def step(self, name, kind, op, value, inputs=(), back=None, equation=None, rule=None, **more):
        self.values.append(np.asarray(value, float))
        self.back.append(back)
        self.steps.append({
            "id": len(self.steps), "name": name, "kind": kind, "op": op, "equation": equation, "rule": rule,
            "reason": None, "group": self.group, "loop": None, "minor": False, "flops": 2.0 * self.values[-1].size,
            "source": {"file": "network.py", "line": 10 + len(self.steps), "code": f"{name} = {op}(…)"},
            "inputs": [{"step": i, "output": 0, "label": self.steps[i]["name"], "carried": False} for i in inputs],
            "bytes": 8 * self.values[-1].size, "parameters": [], "terms": [],
        } | more)  # fmt: skip
        return len(self.steps) - 1

    def leaf(self, name, value, kind="parameter"):
        return self.step(name, kind, kind, value)

    def linear(self, name, x, w, b, equation):
        def back(dy):
            return dy @ self.values[w].T, np.outer(self.values[x], dy), dy

        value = self.values[x] @ self.values[w] + self.values[b]
        rule = r"\bar x = \bar y W^\top, \quad \bar W = x^\top \bar y, \quad \bar b = \bar y"
        return self.step(name, "op", "linear", value, (x, w, b), back, equation, rule)

    def scalar(self, name, op, value, inputs, slopes, equation, rule):
        return self.step(name, "op", op, value, inputs, lambda dy: [dy * s for s in slopes], equation, rule)

    def finish(self, stacked=()):
        deltas = [None] * len(self.steps)
        deltas[-1] = np.ones(())
        for step in reversed(self.steps):
            if self.back[step["id"]] is None or deltas[step["id"]] is None:
                continue
            for operand, (given, found) in enumerate(zip(step["inputs"], self.back[step["id"]](deltas[step["id"]]))):
                i = given["step"]
                deltas[i] = found if deltas[i] is None else deltas[i] + found
                term = {"output": 0, "user": step["id"], "operand": operand, "label": step["name"]}
                self.steps[i]["terms"].append(term | {"value": summary(found, i in stacked)})
        for step, value, delta in zip(self.steps, self.values, deltas):
            i = step["id"]
            shown = None if delta is None else summary(delta, i in stacked)
            output = {"shape": list(value.shape), "dtype": "float64", "value": summary(value, i in stacked)}
            step["outputs"] = [output | {"delta": shown}]
            if step["kind"] == "parameter":
                about = {"path": step["name"], "shape": list(value.shape), "dtype": "float64", "value": summary(value)}
                about |= {"gradient": shown, "backprop": 0.0, "autodiff": 1.2e-16, "ok": True}
                step["parameters"] = [about]
        return {
            "title": self.title, "source": "tests", "dlfn": "0.1.0", "jax": "0.10.2", "date": "2026-11-28T04:00:00",
            "value": float(self.values[-1]), "groups": self.groups, "loops": self.loops, "steps": self.steps,
            "agreement": {"backprop": 0.0, "autodiff": 1.2e-16, "ok": True, "notes": []},
        }  # fmt: skip


def chain(title="L = (ŷ − y)², ŷ = h², h = w₁x + b"):
    """Five numbers and three functions."""
    t = Tape(title)
    w, x, b, y = (t.leaf(n, v, k) for n, v, k in (("w₁", 0.5, "parameter"), ("x", 2.0, "argument"),
                                                  ("b", 0.25, "parameter"), ("y", 1.0, "argument")))  # fmt: skip
    h = t.scalar("h", "linear", 1.25, (w, x, b), (2.0, 0.5, 1.0), "h = w_1 x + b", r"\bar w_1 = \bar h x")
    p = t.scalar("ŷ", "square", 1.5625, (h,), (2.5,), r"\hat y = h^2", r"\bar h = 2 h \bar{\hat y}")
    t.scalar("L", "mse", 0.31640625, (p, y), (1.125, -1.125), r"L = (\hat y - y)^2", r"\bar{\hat y} = 2 (\hat y - y)")
    return t.finish()


def layers(depth=3, width=4, gain=1.0, title="three layers", name="layer", squash=True):
    """A perceptron, each of whose layers is a group."""
    rng = np.random.default_rng(0)
    t = Tape(title)
    h = t.leaf("x", rng.normal(size=width), "argument")
    for i in range(1, depth + 1):
        t.enter(f"{name}{i}")
        w = t.leaf(f"W_{i}", gain * rng.normal(size=(width, width)) / np.sqrt(width))
        b = t.leaf(f"b_{i}", np.zeros(width))
        z = t.linear(f"z_{i}", h, w, b, rf"z_{i} = h_{{{i - 1}}} W_{i} + b_{i}")
        s = 1 / (1 + np.exp(-t.values[z])) if squash else t.values[z]
        slope = s * (1 - s) if squash else np.ones(width)
        equation, rule = rf"h_{i} = \sigma(z_{i})", rf"\delta_{i} = \bar h_{i} \odot \sigma'(z_{i})"
        h = t.step(f"h_{i}", "op", "sigmoid", s, (z,), lambda dy, slope=slope: [dy * slope], equation, rule)
        t.leave()
    value, slope = t.values[h] @ t.values[h] / 2, t.values[h]
    t.step("L", "op", "half_square", value, (h,), lambda dy: [dy * slope], r"L = \tfrac12 \|h\|^2", r"\bar h = h")
    return t.finish()


def loop(length=50):
    """``h = tanh(w h + x_t)`` over steps, folded into a loop."""
    rng = np.random.default_rng(0)
    xs, w, hs = rng.normal(size=(length, 3)), 0.7, [np.zeros(3)]
    zs = []
    for x in xs:
        zs.append(w * hs[-1] + x)
        hs.append(np.tanh(zs[-1]))
    dh, dhs, dzs = np.ones(3), [], []
    for h in hs[:0:-1]:
        dhs.append(dh)
        dzs.append(dh * (1 - h**2))
        dh = w * dzs[-1]
    dhs, dzs = (np.array(found[::-1]) for found in (dhs, dzs))
    t = Tape("a recurrence")
    x = t.leaf("x", xs, "argument")
    t.loops.append({"id": 0, "name": "scan", "length": length, "reverse": False, "parent": None, "source": None})
    z = t.step("z", "op", "linear", zs, (x,), lambda dy: [dzs], "z_t = w h_{t-1} + x_t", r"\bar h = w \bar z", loop=0)
    h = t.step(
        "h", "op", "tanh", hs[1:], (z,), lambda dy: [dzs], r"h_t = \tanh z_t", r"\bar z = \bar h (1 - h^2)", loop=0
    )
    t.steps[z]["inputs"].append({"step": h, "output": 0, "label": "h", "carried": True})
    t.step("L", "op", "sum", hs[-1].sum(), (h,), lambda dy: [dhs], "L = \\sum h_T", r"\bar h_T = \bar L")
    return t.finish(stacked=(x, z, h))


def transformer(depth=12, width=64):
    """Blocks with a residual connection each, alike but for their numbers."""
    rng = np.random.default_rng(0)
    t = Tape("a transformer")
    h = t.leaf("tokens", rng.normal(size=width), "argument")
    t.enter("blocks")
    for i in range(depth):
        t.enter(str(i))
        for part in ("attention", "feedforward"):
            t.enter(part)
            w, b = t.leaf("w", rng.normal(size=(width, width)) / 8 / np.sqrt(width)), t.leaf("b", np.zeros(width))
            z = t.linear("z", h, w, b, "y = x w + b")
            t.leave()
            h = t.step(
                "residual",
                "primitive",
                "add",
                t.values[h] + t.values[z],
                (h, z),
                lambda dy: [dy, dy],
                "x + y",
                r"\bar x = \bar y",
            )
        t.leave()
    t.leave()
    t.step("loss", "op", "sum", t.values[h].sum(), (h,), lambda dy: [dy * np.ones(width)], r"\sum x", r"\bar x = 1")
    return t.finish()
