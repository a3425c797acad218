// ‖δ‖ from the loss back: through depth, on the steps that every way from the loss to the farthest input passes, and
// through time, on what loops carry from step to step.
const spine = () => {
  if (!steps.length) return [];
  const after = steps.map((_, i) => (i === steps.length - 1 ? i : null)); // the next step that all ways to the loss pass
  const rank = steps.map(() => 0);
  const far = steps.map(() => 0); // of the longest way to the loss
  for (let id = steps.length - 2; id >= 0; id--) {
    let meet = null;
    for (const { user, carried } of users[id]) {
      if (carried || after[user] === null || deltaOf(steps[id]) === null || deltaOf(steps[user]) === null) continue;
      far[id] = Math.max(far[id], far[user] + 1);
      let [a, b] = [meet ?? user, user];
      while (a !== b) rank[a] > rank[b] ? (a = after[a]) : (b = after[b]);
      meet = a;
    }
    after[id] = meet;
    if (meet !== null) rank[id] = rank[meet] + 1;
  }
  let at = far.reduce((best, length, id) => (length > far[best] ? id : best), 0);
  const found = [at];
  while (after[at] !== null && after[at] !== at) found.push((at = after[at]));
  return found.filter((id) => !steps[id].minor && deltaOf(steps[id]) !== null);
};

const verdict = (norms, way) => {
  if (norms.some((norm) => !finite(norm))) return ["bad", `δ is not finite on its way back ${way}.`];
  const [first, last] = [norms[0], norms.at(-1)];
  if (!(first > 0) || norms.length < 2)
    return last > 0 && !(first > 0) ? ["bad", `δ is 0 where it arrives: nothing is learned there.`] : ["", ""];
  const factor = first / last;
  const each = factor ** (1 / (norms.length - 1));
  const text = `Back ${way}, ‖δ‖ goes from ${number(last, 3)} to ${number(first, 3)}: ×${number(factor, 2)}, about ×${number(each, 2)} a step.`;
  if (factor < 1e-3) return ["bad", `${text} It vanishes.`];
  if (factor > 1e3) return ["bad", `${text} It explodes.`];
  return [
    "good",
    `${text} ${factor < 0.1 ? "It shrinks" : factor > 10 ? "It grows" : "It keeps its size"}, and neither vanishes nor explodes.`,
  ];
};

const firstBad = () => {
  const value = steps.find((step) => step.outputs.some((output) => output.value?.nonfinite));
  const delta = steps.findLast((step) => step.outputs.some((output) => output.delta?.nonfinite));
  const link = (step) =>
    make("button", { class: "link", type: "button", onclick: () => select(step.id) }, nameOf(step.id));
  if (!value && !delta) return null;
  return make(
    "p",
    { class: "bad verdict" },
    value ? ["The first value that is not finite is that of ", link(value), ". "] : null,
    delta ? ["On the way back, the first δ that is not finite is that of ", link(delta), "."] : null,
  );
};

const way = spine();
let charts = [];
const depthCharts = () => {
  charts = [];
  const parts = [];
  const bad = firstBad();
  if (bad) parts.push(bad);
  if (way.length > 1) {
    const norms = way.map((id) => normOf(deltaOf(steps[id])));
    const [kind, text] = verdict(norms, "through depth");
    if (text) parts.push(make("p", { class: `verdict ${kind}` }, text));
    const every = Math.ceil(way.length / (innerWidth < 700 ? 4 : 7));
    const short = (name) => (name.length > 12 ? `${name.slice(0, 11)}…` : name);
    const marks = way
      .map((id, i) => [i, short(nameOf(id).split("/").at(-1))])
      .filter(([i]) => i % every === 0 || i === way.length - 1)
      .filter(([i], k, all) => k === all.length - 1 || i === way.length - 1 || way.length - 1 - i >= every * 0.7);
    const depth = lineChart({
      title: "‖δ‖ through depth (logarithmic)",
      series: [{ name: "‖δ‖", values: norms }],
      marks,
      below: "from the input, left, to the loss, right",
      at: null,
      onpick: (i) => select(way[i]),
    });
    charts.push(depth);
    parts.push(depth);
    const ratios = norms.slice(0, -1).map((norm, i) => norm / norms[i + 1]);
    const names = way.slice(0, -1).map(nameOf);
    parts.push(
      ratioChart({
        title: "factor from each step's δ to the one before it",
        ratios,
        names,
        onpick: (i) => select(way[i]),
      }),
    );
  }
  for (const loop of loops) {
    const carried = [
      ...new Set(
        steps.flatMap((step) =>
          step.inputs.filter((input) => input.carried && steps[input.step].loop === loop.id).map((input) => input.step),
        ),
      ),
    ];
    const series = carried
      .map((id) => ({ name: nameOf(id), values: deltaOf(steps[id])?.over_steps }))
      .filter(({ values }) => values);
    if (!series.length) continue;
    for (const { name, values } of series) {
      const [kind, text] = verdict(loop.reverse ? [...values].reverse() : values, `through time in ${name}`);
      if (text) parts.push(make("p", { class: `verdict ${kind}` }, text));
    }
    parts.push(
      Object.assign(
        lineChart({
          title: `‖δ‖ through time: what ${loopName(loop.id)} carries (logarithmic)`,
          series,
          below: "step of the loop",
          at: momentOf(loop.id),
          onpick: (i) => moveLoop(loop.id, i),
        }),
        { loop: loop.id },
      ),
    );
  }
  return parts;
};
