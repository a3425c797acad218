// What the reader does, and the page itself.
const select = (item, { walk = false } = {}) => {
  if (!walk && turn !== null && timer !== null) pause();
  selected = item;
  mark();
  showDetails();
  const last = typeof item === "number" ? item : lastOf(item);
  charts.forEach((chart) => chart.mark(way.includes(last) ? way.indexOf(last) : null));
};
const redraw = () => {
  const walking = turn;
  draw();
  if (walking !== null) stop();
  showDetails();
};
const unfold = (key) => {
  open.add(key);
  redraw();
};
const foldUp = (key) => {
  open.delete(key);
  selected = key;
  redraw();
  bring(mark());
};
const reveal = (id) => {
  chains[id].forEach((key) => open.add(key));
  if (steps[id].minor) show.minor = true;
  selected = id;
  redraw();
  bring(mark());
};
const moveLoop = (id, at, keep = false) => {
  for (let loop = id, rest = at; loop !== null; loop = loops[loop].parent) {
    stepAt[loop] = rest % loops[loop].length;
    rest = Math.floor(rest / loops[loop].length);
    if (keep) break;
  }
  const focus = keep && document.activeElement;
  draw();
  showDetails();
  drawCharts();
  if (focus) details.querySelector(`[data-loop="${id}"] input`)?.focus();
};

const onKey = (event) => {
  if (event.target.closest(".toggle, .fold") && event.key === "Enter") return;
  const chosen = typeof selected === "number" ? standIn(selected) : selected;
  const at = items.indexOf(chosen);
  const to = {
    ArrowRight: at + 1,
    ArrowDown: at + 1,
    ArrowLeft: at - 1,
    ArrowUp: at - 1,
    Home: 0,
    End: items.length - 1,
  }[event.key];
  if (to !== undefined && items[to] !== undefined) {
    select(items[to]);
    cards.get(items[to]).firstChild.focus({ preventScroll: true });
    bring(cards.get(items[to]));
  } else if (event.key === "+" && typeof chosen === "string") unfold(chosen);
  else if (event.key === "-" && typeof chosen === "number" && chains[chosen].length) foldUp(chains[chosen].at(-1));
  else return;
  event.preventDefault();
  mark()?.firstChild.focus({ preventScroll: true });
};

const check = (text, on, change) =>
  make(
    "label",
    {},
    make("input", { type: "checkbox", checked: on, onchange: ({ target }) => (change(target.checked), redraw()) }),
    text,
  );
const zoomBy = (factor) => {
  zoom = Math.min(3, Math.max(0.2, (zoom ?? fit()) * factor));
  fit();
};
const theme = make(
  "button",
  {
    type: "button",
    onclick: () => {
      document.documentElement.dataset.theme = dark() ? "light" : "dark";
      theme.textContent = dark() ? "light" : "dark";
      redraw();
    },
  },
  dark() ? "light" : "dark",
);
theme.setAttribute("aria-label", "light or dark colours");

const summary = () => {
  const { agreement: found, value } = data;
  const compared = [
    ["backprop", found.backprop],
    ["autodiff", found.autodiff],
  ].filter(([, difference]) => difference !== null);
  const verdict = compared.map(([name, difference]) => `${name} ${number(difference, 2)}`).join(", ");
  return [
    make("span", { class: "loss" }, "result ", make("b", {}, number(value, 6))),
    make(
      "span",
      { class: found.ok ? "good" : "bad" },
      found.ok ? "✓ " : "✗ ",
      compared.length
        ? `gradients of the hand rules ${found.ok ? "agree with" : "differ from"} the others: ${verdict}`
        : "gradients were not compared",
    ),
    found.notes.map((note) => make("span", { class: "soft" }, note)),
  ];
};
const drawCharts = () => depthPlace.replaceChildren(...depthCharts());
const depthPlace = make("section", { class: "depth", "aria-label": "the size of δ" });
const foldAll = (opened) => {
  open.clear();
  if (opened) for (const key of containers.keys()) open.add(key);
  redraw();
};
const bar = make(
  "div",
  { class: "bar" },
  player,
  make(
    "div",
    { class: "tools", role: "group", "aria-label": "what the graph shows" },
    steps.some((step) => step.minor) ? check("small steps", show.minor, (on) => (show.minor = on)) : null,
    steps.some(leaf)
      ? check(make("span", { class: "swatch run-3" }, "parameters"), show.parameters, (on) => (show.parameters = on))
      : null,
    containers.size
      ? [
          make("button", { type: "button", onclick: () => foldAll(false) }, "fold all"),
          containers.size && steps.length <= 300
            ? make("button", { type: "button", onclick: () => foldAll(true) }, "unfold all")
            : null,
        ]
      : null,
    make("button", { type: "button", "aria-label": "smaller", onclick: () => zoomBy(1 / 1.25) }, "−"),
    make("button", { type: "button", "aria-label": "larger", onclick: () => zoomBy(1.25) }, "+"),
    make("button", { type: "button", onclick: () => ((zoom = null), fit()) }, "fit"),
    make(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        onclick: ({ currentTarget }) => {
          currentTarget.setAttribute("aria-pressed", parent.classList.toggle("projected"));
          zoom = null;
          redraw();
        },
      },
      "project",
    ),
  ),
);

const heading = parent.querySelector("h1");
heading.replaceWith(make("header", {}, heading.cloneNode(true), make("p", { class: "summary" }, summary()), theme));
parent.append(
  make(
    "div",
    { class: "columns" },
    make(
      "div",
      { class: "left" },
      make("section", { class: "graph", "aria-label": "the network" }, bar, frame, said),
      depthPlace,
    ),
    details,
  ),
  make("footer", {}, `${data.source} · dlfn ${data.dlfn}, jax ${data.jax} · ${data.date}`),
);
draw();
drawCharts();
if (selected !== null) select(selected);
bring(mark());
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) draw();
  width = innerWidth;
});
