// Charts of norms, on a logarithmic axis; what is zero or not finite stands at its edge.
const scaleOf = (values) => {
  const positive = values.filter((value) => finite(value) && value > 0).map(Math.log10);
  let low = Math.floor(Math.min(...positive, 0) * 2) / 2;
  let high = Math.ceil(Math.max(...positive, positive.length ? -400 : 1) * 2) / 2;
  if (positive.length) low = Math.floor(Math.min(...positive) * 2) / 2;
  if (high - low < 1) high = low + 1;
  const unit = Math.max(1, Math.ceil((high - low) / 5));
  const ticks = [];
  for (let tick = Math.ceil(low); tick <= high; tick += unit) ticks.push(tick);
  const at = (value) => (!finite(value) ? 108 : value > 0 ? (100 * (Math.log10(value) - low)) / (high - low) : 0);
  return { at, ticks };
};
const power = (exponent) =>
  [-2, -1, 0, 1, 2, 3].includes(exponent)
    ? number(10 ** exponent)
    : make("span", {}, "10", make("sup", {}, minus(String(exponent))));

// series: [{ name, values }] over 0 … n − 1; a click tells the nearest of these.
const lineChart = ({ title, series, below, marks, at, onpick }) => {
  const count = Math.max(...series.map(({ values }) => values.length));
  const x = (i) => (count > 1 ? (100 * i) / (count - 1) : 50);
  const y = scaleOf(series.flatMap(({ values }) => values));
  const drawn = series.map(({ values }, run) => {
    const line = values.map((value, i) =>
      value === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${x(i)} ${100 - y.at(value)}`,
    );
    const dots =
      count <= 60
        ? make("path", {
            class: `dots run-${run}`,
            d: values.map((v, i) => (v === null ? "" : `M${x(i)} ${100 - y.at(v)}h0`)).join(""),
          })
        : null;
    return [make("path", { class: `curve run-${run}`, d: line.join("") }), dots];
  });
  const wild = series
    .flatMap(({ values }) => values.map((value, i) => (value === null || finite(value) ? "" : `M${x(i)} -8h0`)))
    .join("");
  const lines = make("path", {
    class: "gridline",
    d: y.ticks.map((tick) => `M0 ${100 - y.at(10 ** tick)}H100`).join(""),
  });
  const cursor = make("div", { class: "cursor", hidden: at === null, style: `left:${x(at ?? 0)}%` });
  const said = series
    .map(({ name, values }) => `${name} from ${number(values[0])} to ${number(values.at(-1))}`)
    .join("; ");
  const plot = make(
    "div",
    { class: wild ? "plot has-wild" : "plot", role: "img", "aria-label": `${title}: ${said}` },
    make(
      "svg",
      { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
      lines,
      drawn,
      wild ? make("path", { class: "dots wild", d: wild }) : null,
    ),
    cursor,
    wild ? make("span", { class: "y bad", style: "top:-8%" }, "not finite") : null,
    y.ticks.map((tick) => make("span", { class: "y", style: `top:${100 - y.at(10 ** tick)}%` }, power(tick))),
    (
      marks ?? [
        [0, "0"],
        [count - 1, String(count - 1)],
      ]
    ).map(([i, text]) => make("span", { class: "x", style: `left:${x(i)}%` }, text)),
  );
  if (onpick) {
    plot.classList.add("picks");
    plot.addEventListener("click", ({ clientX }) => {
      const box = plot.getBoundingClientRect();
      onpick(Math.max(0, Math.min(count - 1, Math.round(((clientX - box.left) / box.width) * (count - 1)))));
    });
  }
  const names =
    series.length > 1
      ? make(
          "p",
          { class: "note" },
          series.map(({ name }, run) => make("span", { class: `swatch run-${run}` }, name)),
        )
      : null;
  return Object.assign(
    make(
      "figure",
      { class: "chart" },
      make("figcaption", {}, title),
      names,
      plot,
      make("p", { class: "below" }, below),
    ),
    {
      mark: (i) => {
        cursor.hidden = i === null;
        cursor.style.left = `${x(i ?? 0)}%`;
      },
    },
  );
};

const overSteps = (label, series, loop) =>
  lineChart({
    title: `norm of ${label} at each step`,
    series,
    below: "step of the loop",
    at: momentOf(loop),
    onpick: (i) => moveLoop(loop, i),
  });

// Factors between neighbours: bars up where δ grows on its way back, down where it shrinks.
const ratioChart = ({ title, ratios, names, onpick }) => {
  const size = (ratio) => (!finite(ratio) || ratio <= 0 ? 50 : Math.min(50, (50 * Math.abs(Math.log10(ratio))) / most));
  const most = Math.max(0.3, ...ratios.filter((r) => finite(r) && r > 0).map((r) => Math.abs(Math.log10(r))));
  const width = 100 / ratios.length;
  const bars = ratios.map((ratio, i) => {
    const up = !(ratio < 1);
    return make("rect", {
      class: !finite(ratio) ? "wild" : up ? "up" : "down",
      x: i * width + width * 0.15,
      width: width * 0.7,
      y: up ? 50 - size(ratio) : 50,
      height: Math.max(size(ratio), 0.5),
    });
  });
  const labels = [
    [most, 0],
    [0, 50],
    [-most, 100],
  ].map(([exponent, top]) => make("span", { class: "y", style: `top:${top}%` }, `×${number(10 ** exponent, 2)}`));
  const plot = make(
    "div",
    {
      class: "plot picks",
      role: "img",
      "aria-label": `${title}: ${ratios
        .map((r, i) => `${names[i]} ×${number(r, 2)}`)
        .slice(0, 40)
        .join(", ")}`,
    },
    make(
      "svg",
      { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
      make("path", { class: "gridline", d: "M0 50H100" }),
      bars,
    ),
    labels,
  );
  plot.addEventListener("click", ({ clientX }) => {
    const box = plot.getBoundingClientRect();
    onpick(Math.max(0, Math.min(ratios.length - 1, Math.floor(((clientX - box.left) / box.width) * ratios.length))));
  });
  return make(
    "figure",
    { class: "chart ratios" },
    make("figcaption", {}, title),
    plot,
    make(
      "p",
      { class: "below" },
      make("span", { class: "swatch run-1" }, "grows on its way back"),
      make("span", { class: "swatch run-0" }, "shrinks"),
    ),
  );
};
