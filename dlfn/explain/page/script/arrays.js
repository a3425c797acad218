// Arrays as numbers, heat maps, histograms and curves over steps.
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
// Blue below zero, orange above: told apart by those who do not tell red from green, in both themes.
const ENDS = {
  light: [
    [33, 102, 172],
    [255, 255, 255],
    [196, 92, 10],
  ],
  dark: [
    [90, 165, 245],
    [24, 28, 32],
    [247, 148, 72],
  ],
};
const colour = (value, limit) => {
  if (!finite(value)) return dark() ? [255, 122, 200] : [190, 20, 120];
  const [below, middle, above] = ENDS[dark() ? "dark" : "light"];
  const share = limit > 0 ? Math.min(1, Math.abs(value) / limit) ** 0.75 : 0;
  const end = value < 0 ? below : above;
  return middle.map((part, i) => Math.round(part + share * (end[i] - part)));
};
const css = (rgb) => `rgb(${rgb.join(" ")})`;
const inkOn = (rgb) => {
  const [r, g, b] = rgb.map((part) =>
    part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};

const limitOf = (array) => Math.max(Math.abs(array.min), Math.abs(array.max)) || 0;
// The last two axes, those before them one under the other.
const asRows = (nested) => {
  if (!Array.isArray(nested)) return [[nested]];
  if (!Array.isArray(nested[0])) return [nested];
  return Array.isArray(nested[0][0]) ? nested.flatMap(asRows) : nested;
};
// Of an array in a loop, what it is at the step that is shown; small ones have all their steps along the first axis.
const now = (array, loop) => {
  if (!array?.over_steps || loop === null) return array;
  if (array.per_step)
    return array.per_step[Math.max(0, array.kept.filter((step) => step <= momentOf(loop)).length - 1)];
  return array.data === null
    ? array
    : summed(array.data[Math.min(momentOf(loop), array.data.length - 1)], array.shape.slice(1));
};
const summed = (nested, shape) => {
  const all = [nested].flat(Infinity);
  const values = all.filter(finite);
  const norm = values.length ? Math.hypot(...values) : 0;
  return {
    shape,
    data: nested,
    norm,
    min: Math.min(...values),
    max: Math.max(...values),
    zeros: values.filter((value) => value === 0).length,
    nonfinite: all.length - values.length,
    histogram: null,
    image: null,
    over_steps: null,
  };
};

const grid = (rows, limit, label) => {
  const digits = rows[0].length > 4 ? 3 : 4;
  const cell = (value) => {
    const rgb = colour(value, limit);
    return make("td", { style: `background:${css(rgb)};color:${inkOn(rgb)}` }, number(value, digits));
  };
  const table = make(
    "table",
    { class: "grid", "aria-label": label },
    make(
      "tbody",
      {},
      rows.map((row) => make("tr", {}, row.map(cell))),
    ),
  );
  return make("div", { class: "scroll" }, table);
};

const canvas = (rows, limit, label) => {
  const width = rows[0].length;
  const made = make("canvas", { width, height: rows.length, class: "image", role: "img", "aria-label": label });
  const pixels = new ImageData(width, rows.length);
  rows.forEach((row, i) =>
    row.forEach((value, j) => pixels.data.set([...colour(value, limit), 255], 4 * (i * width + j))),
  );
  made.getContext("2d").putImageData(pixels, 0, 0);
  const size = Math.max(3, Math.min(16, Math.floor(320 / Math.max(width, rows.length))));
  made.style.width = `${Math.min(width * size, 320)}px`;
  if (width > 8 * rows.length) made.style.height = `${Math.max(12, rows.length * size)}px`;
  return made;
};

const legend = (limit, wild) => {
  const stops = [-1, -0.5, -0.2, 0, 0.2, 0.5, 1].map((value) => css(colour(value, 1)));
  const ramp = make("span", { class: "ramp", style: `background:linear-gradient(to right,${stops.join()})` });
  return make(
    "p",
    { class: "note legend" },
    number(-limit, 3),
    ramp,
    number(limit, 3),
    wild
      ? [" ", make("span", { class: "ramp patch", style: `background:${css(colour("nan", 1))}` }), "not finite"]
      : null,
  );
};

const histogram = ({ edges, counts }, label) => {
  const most = Math.max(...counts);
  const bars = counts.map((count, i) => make("rect", { x: i, width: 0.9, y: 1 - count / most, height: count / most }));
  const drawn = make(
    "svg",
    { viewBox: `0 0 ${counts.length} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    bars,
  );
  const ends = make(
    "div",
    { class: "ends" },
    make("span", {}, number(edges[0], 3)),
    make("span", {}, number(edges.at(-1), 3)),
  );
  return make("div", { class: "histogram", role: "img", "aria-label": `${label}: histogram` }, drawn, ends);
};

const facts = (array) => {
  const parts = [
    shapeOf(array.shape),
    `norm ${number(array.norm)}`,
    `from ${number(array.min)} to ${number(array.max)}`,
  ];
  if (array.zeros) parts.push(array.zeros === 1 ? "1 zero" : `${array.zeros} zeros`);
  if (array.nonfinite) parts.push(make("strong", { class: "bad" }, `${array.nonfinite} not finite`));
  return make(
    "p",
    { class: "note" },
    parts.flatMap((part, i) => (i ? [" · ", part] : [part])),
  );
};

const NUMBERS = 12; // columns that are shown as numbers
const showArray = (whole, label, loop) => {
  const array = now(whole, loop);
  const limit = limitOf(array);
  const parts = [];
  if (array.data !== null && !array.shape.length) {
    parts.push(make("p", { class: "single" }, number(array.data, 6)));
  } else if (array.data !== null) {
    const rows = asRows(array.data);
    const small = rows.length && rows[0].length <= NUMBERS && rows.length <= 16;
    if (rows.length && rows[0].length)
      parts.push(
        small ? grid(rows, limit, label) : canvas(rows, limit, `${label}: heat map`),
        legend(limit, array.nonfinite),
      );
  } else if (array.image) {
    parts.push(
      canvas(pixelsOf(array.image), array.image.limit, `${label}: heat map`),
      legend(array.image.limit, array.nonfinite),
    );
    if (array.image.pooled) parts.push(make("p", { class: "note" }, "each cell is the mean of several numbers"));
  }
  if (array.histogram) parts.push(histogram(array.histogram, label));
  if (array.shape.length) parts.push(facts(array));
  if (loop !== null && whole.over_steps)
    parts.push(overSteps(label, [{ name: label, values: whole.over_steps }], loop));
  return make("div", { class: "array" }, parts);
};
