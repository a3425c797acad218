// The graph: its cards, the edges between them, and the frames around the containers that are open.
const stage = make("div", { class: "stage" });
const frame = make(
  "div",
  {
    class: "frame",
    role: "group",
    "aria-label": "graph of the steps; the arrow keys go from step to step",
    onkeydown: (event) => onKey(event),
  },
  stage,
);
let items = [];
let edges = [];
let cards = new Map();
let selected = steps.length ? steps.length - 1 : null;
let zoom = null; // null: as large as fits
let drawnSize = [0, 0];

// In a card, of a path what is not said by the frames around it.
const short = (item) =>
  typeof item === "number" && chains[item].length
    ? nameOf(item)
        .split("/")
        .slice(leaf(steps[item]) ? -2 : -1)
        .join("/")
    : nameOf(item);
const nameOf = (item) => {
  if (typeof item === "string") return containers.get(item).label;
  const { name, op } = steps[item];
  return item === steps.length - 1 && name === op ? "result" : name || op;
};
const lastOf = (item) =>
  typeof item === "number"
    ? item
    : (containers.get(item).steps.findLast((id) => deltaOf(steps[id]) !== null) ?? containers.get(item).steps.at(-1));

const SMALL = 6; // numbers in a row of a card
const FEW = 8; // cards that have their numbers in any case
const LONGEST = 48; // letters of an equation in a card
const miniature = (array, mark, full) => {
  const head = make("span", { class: "mark" }, mark);
  if (array === null) return make("span", { class: "mini" }, head, make("span", { class: "soft" }, "none"));
  const rows =
    array.data !== null && array.data !== undefined
      ? asRows(array.data)
      : array.image && full
        ? pixelsOf(array.image)
        : null;
  const limit = limitOf(array);
  let shown = make("span", {}, array.shape.length ? `norm ${number(array.norm, 3)}` : number(array.data ?? array.norm));
  if (full && rows?.length && rows[0].length) {
    if (!array.shape.length) shown = make("span", { class: "single" }, number(rows[0][0]));
    else if (rows.length <= 4 && rows[0].length <= SMALL) {
      const vector = rows.length === 1; // a column, as narrow as can be
      const cells = rows.flat().map((value) => {
        const rgb = colour(value, limit);
        return make("span", { style: `background:${css(rgb)};color:${inkOn(rgb)}` }, number(value, 2));
      });
      shown = make("span", { class: "cells", style: `--columns:${vector ? 1 : rows[0].length}` }, cells);
    } else {
      const small = canvas(rows, array.image ? array.image.limit : limit, "");
      small.setAttribute("aria-hidden", "true");
      small.removeAttribute("role");
      small.removeAttribute("aria-label");
      small.classList.add("thumb");
      shown = make("span", { class: "thumbs" }, small, make("span", { class: "soft" }, number(array.norm, 3)));
    }
  }
  return make("span", { class: "mini" }, head, shown);
};

const card = (item, full) => {
  const isStep = typeof item === "number";
  const box = isStep ? null : containers.get(item);
  const step = steps[lastOf(item)];
  const delta = deltaOf(step);
  const times = box?.count ? ` ×${box.count}` : "";
  const output = step.outputs.find((each) => each.delta !== null) ?? step.outputs[0];
  const kind = isStep
    ? step.kind === "op" || step.kind === "rule" || step.kind === "primitive"
      ? step.op
      : step.kind
    : `${box.kind}, ${box.steps.filter((id) => !steps[id].minor).length} steps`;
  const said = delta === null ? ", no δ" : `, δ of norm ${number(delta.norm, 3)}`;
  const toggle = isStep
    ? null
    : make(
        "button",
        {
          class: "toggle",
          type: "button",
          tabindex: -1,
          "aria-label": `unfold ${nameOf(item)}`,
          onclick: () => unfold(item),
        },
        make("span", { "aria-hidden": "true" }, "+"),
      );
  const loop = isStep ? step.loop : null;
  const small = now(output?.value ?? null, loop)?.shape ?? [];
  const narrow = full && small.filter((size) => size > 1).length === 1 && Math.max(...small) <= SMALL;
  const sizeOnly = make(
    "span",
    { class: "delta" },
    miniature(delta && { ...now(delta, loop), data: null, image: null, shape: [1] }, "δ", false),
  );
  const both =
    isStep && output && full
      ? make(
          "span",
          { class: narrow ? "both columns" : "both" },
          miniature(now(output.value, loop), "value", true),
          make("span", { class: "delta" }, miniature(now(output.delta, loop), "δ", true)),
        )
      : null;
  const body = make(
    "button",
    {
      class: `card ${isStep ? step.kind : box.kind}`,
      type: "button",
      tabindex: -1,
      onclick: () => select(item),
      ondblclick: () => isStep || unfold(item),
    },
    make(
      "span",
      { class: "head" },
      make("b", {}, `${short(item)}${times}`),
      " ",
      short(item) === kind ? null : make("span", { class: isStep && !step.inputs.length ? "unseen" : "soft" }, kind),
    ),
    full && isStep && step.equation && step.equation.length <= LONGEST && !step.equation.startsWith("\\text")
      ? make("span", { "aria-hidden": "true" }, formula(step.equation, false))
      : null,
    make("span", { class: "unseen" }, said),
    make("span", { class: "numbers", "aria-hidden": "true" }, both ?? (delta === null && isStep ? null : sizeOnly)),
  );
  return make("div", { class: "node" }, body, toggle);
};

// With their numbers in them where that can be read, else with the size of δ alone.
const placed = (full) => {
  cards = new Map(items.map((item) => [item, card(item, full)]));
  stage.style.transform = "none";
  stage.replaceChildren(...cards.values());
  const sizes = new Map(
    items.map((item) => [item, { width: cards.get(item).offsetWidth, height: cards.get(item).offsetHeight }]),
  );
  const frames = [...containers.keys()].filter(
    (key) => open.has(key) && items.some((item) => heldBy(item).includes(key)),
  );
  const room = [frame.clientWidth - 8, tallest()];
  const plan = choose(sizes, frames, room);
  return full && items.length > FEW && scaleFor(plan, room) < LEAST ? placed(false) : { plan, sizes, frames };
};
const draw = () => {
  items = visible();
  edges = edgesOf(items);
  const { plan, sizes, frames } = placed(items.length <= ROOM);
  const { width, height } = plan;
  drawnSize = [width, height];
  for (const item of items) {
    const { x, y } = plan.at(item);
    const size = sizes.get(item);
    cards.get(item).style.translate = `${x - size.width / 2}px ${y - size.height / 2}px`;
  }
  // Frames that begin at one place have their names in one line.
  const names = new Map();
  const boxes = frames.flatMap((key) =>
    outlines(plan, key).map(({ x, y, width: w, height: h }) => {
      const { kind, label, count } = containers.get(key);
      const corner = [x - w / 2, y - h / 2].map((at) => Math.round(at / 12)).join();
      const fold = make(
        "button",
        { class: "fold", type: "button", tabindex: -1, title: "fold it", onclick: () => foldUp(key) },
        make("span", { "aria-hidden": "true" }, "− "),
        `${label}${count ? ` ×${count}` : ""}`,
      );
      const place = `translate:${x - w / 2}px ${y - h / 2}px`;
      if (!names.has(corner)) names.set(corner, make("div", { class: "names", style: place }));
      names.get(corner).append(fold);
      return make("div", { class: `box ${kind}`, style: `${place};width:${w}px;height:${h}px` });
    }),
  );
  const lines = edges.map(({ key, from, to, carried }) => {
    const points = carried ? arc(plan, from, to) : plan.points({ from, to, carried });
    const corners = !carried && plan.corners?.({ from, to, carried });
    const across = plan.direction === "LR" ? 1 : 0;
    const drawn = corners ? angular(points) : carried ? rounded(points) : smooth(points, across);
    const tip = carried || corners ? arrow(points) : arrow(points, across);
    return make(
      "g",
      { class: carried ? "edge carried" : "edge", "data-edge": key },
      make("path", { d: drawn }),
      make("path", { class: "tip", d: tip }),
    );
  });
  stage.prepend(...boxes, make("svg", { width, height, "aria-hidden": "true" }, lines), ...names.values());
  fit();
  mark();
};

const fit = () => {
  const [width, height] = drawnSize;
  const best = Math.min((frame.clientWidth - 8) / width, tallest() / height, 1.5);
  const scale = zoom ?? (best < LEAST ? Math.min(0.9, Math.max(LEAST, (frame.clientWidth - 8) / width)) : best);
  stage.style.transform = `scale(${scale})`;
  stage.style.width = `${width * scale}px`;
  stage.style.height = `${height * scale}px`;
  stage.style.marginInline = width * scale < frame.clientWidth ? "auto" : "0";
  return scale;
};

// Which card is chosen, and along which edges its δ comes to it.
const mark = () => {
  const chosen = selected === null ? null : typeof selected === "number" ? standIn(selected) : selected;
  for (const [item, made] of cards) {
    const button = made.firstChild;
    button.tabIndex = item === chosen ? 0 : -1;
    button.setAttribute("aria-pressed", item === chosen);
  }
  if (!cards.has(chosen) && cards.size) [...cards.values()].at(-1).firstChild.tabIndex = 0;
  for (const line of stage.querySelectorAll(".edge"))
    line.classList.toggle("flow", line.dataset.edge.startsWith(`${chosen}→`));
  return cards.get(chosen);
};
const bring = (made) => {
  if (!made) return;
  const [card, view] = [made.getBoundingClientRect(), frame.getBoundingClientRect()];
  if (card.top < view.top || card.bottom > view.bottom)
    frame.scrollTop += card.top - view.top - view.height / 2 + card.height / 2;
  if (card.left < view.left || card.right > view.right)
    frame.scrollLeft += card.left - view.left - view.width / 2 + card.width / 2;
};
