// What is explained, and small helpers: elements whose texts are never markup, numbers, mathematics.
const data = JSON.parse(document.getElementById("data").textContent);
const { steps, groups, loops } = data;
// Images come as bytes: shares of their largest number.
const pixelsOf = ({ columns, limit, levels }) => {
  const values = [...atob(levels)].map((letter) => (letter.charCodeAt(0) << 24) >> 24);
  const rows = [];
  for (let i = 0; i < values.length; i += columns)
    rows.push(values.slice(i, i + columns).map((level) => (level === -128 ? "nan" : (level * limit) / 127)));
  return rows;
};
for (const step of steps) {
  for (const each of [...step.outputs, ...step.terms, ...step.parameters]) {
    for (const key of ["value", "delta", "gradient"]) if (key in each) each[key] = data.arrays[each[key]] ?? null;
  }
}
const stepAt = loops.map((loop) => loop.length - 1); // which step of each loop is shown
const parent = document.getElementById("page");

const SVG = new Set(["svg", "path", "rect", "g", "line", "circle"]);
const make = (name, attributes = {}, ...children) => {
  const made = SVG.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
};

const finite = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replaceAll("-", "−");
const number = (value, digits = 4) => {
  if (!finite(value)) return minus(String(value));
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5))
    return minus(value.toExponential(Math.min(2, digits - 1)).replace("e+", "e"));
  return minus(String(+value.toPrecision(digits)));
};
const quantity = (value, unit) => {
  for (const [least, letter] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (value >= least) return `${+(value / least).toPrecision(3)} ${letter}${unit}`;
  }
  return `${+value.toPrecision(3)} ${unit}`;
};
const shapeOf = (shape) => (shape.length ? shape.join("×") : "a number");

const formulas = new Map();
const formula = (latex, display = true) => {
  const key = `${display}${latex}`;
  if (!formulas.has(key)) {
    const made = make("span", { class: display ? "formula display" : "formula" });
    temml.render(latex, made, { displayMode: display, throwOnError: false });
    formulas.set(key, made);
  }
  return formulas.get(key).cloneNode(true);
};

// A sentence with formulas in it breaks like text; of several formulas each has its line.
const balanced = (latex) =>
  !latex.includes("\\begin") && (latex.match(/\{/g)?.length ?? 0) === (latex.match(/\}/g)?.length ?? 0);
const stated = (latex) => {
  const words = latex.split(/\\text\{([^{}]*)\}/);
  if (words[0] === "" && words.length > 1 && words.every(balanced)) {
    return make(
      "p",
      { class: "formula" },
      words.map((word, i) => (i % 2 ? word : word.trim() && formula(word, false))),
    );
  }
  const lines = latex.split(/\\q?quad\b/);
  return lines.length > 1 && lines.every(balanced)
    ? lines.map((line) => formula(line.trim().replace(/,$/, "")))
    : formula(latex);
};

const deltaOf = (step) => step.outputs.map((output) => output.delta).find((delta) => delta !== null) ?? null;
const normOf = (array) => (array === null ? null : array.nonfinite ? Infinity : array.norm);
// A name, where a loop has no more than its line of source.
const loopName = (id) => (/^[\w/. -]{1,28}$/.test(loops[id].name) ? loops[id].name : "loop");
// Which time the body of a loop runs, with those around it.
const momentOf = (id) => (loops[id].parent === null ? 0 : momentOf(loops[id].parent) * loops[id].length) + stepAt[id];
// Of a step in a loop, the number for the step of the loop that is shown.
const normNow = (step, array) => {
  if (array === null || step.loop === null || !array.over_steps) return normOf(array);
  return array.over_steps[Math.min(momentOf(step.loop), array.over_steps.length - 1)];
};
const users = steps.map(() => []);
for (const step of steps)
  for (const input of step.inputs) users[input.step].push({ user: step.id, carried: input.carried });
