// The graph: cards placed by dagre, edges between them, and frames around the containers that are open.
const stage = make("div", { class: "stage" });
const frame = make("div", { class: "frame", role: "group", "aria-label": "graph of the steps; the arrow keys go from step to step", onkeydown: (event) => onKey(event) }, stage);
let items = [];
let edges = [];
let cards = new Map();
let selected = steps.length ? steps.length - 1 : null;
let zoom = null; // null: as large as fits
let drawnSize = [0, 0];

const nameOf = (item) => (typeof item === "number" ? steps[item].name || steps[item].op : containers.get(item).label);
const lastOf = (item) => (typeof item === "number" ? item : containers.get(item).steps.findLast((id) => deltaOf(steps[id]) !== null) ?? containers.get(item).steps.at(-1));

const SMALL = 6;
const miniature = (array, mark, full) => {
  const head = make("span", { class: "mark" }, mark);
  if (array === null) return make("span", { class: "mini" }, head, make("span", { class: "soft" }, "none"));
  const rows = array.data !== null && array.data !== undefined ? asRows(array.data) : array.image?.data;
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
      const small = canvas(rows, array.image ? limitOf(spread(rows)) : limit, "");
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
  const kind = isStep ? (step.kind === "op" || step.kind === "rule" || step.kind === "primitive" ? step.op : step.kind) : `${box.kind}, ${box.steps.filter((id) => !steps[id].minor).length} steps`;
  const said = delta === null ? ", no δ" : `, δ of norm ${number(delta.norm, 3)}`;
  const toggle = isStep ? null : make("button", { class: "toggle", type: "button", tabindex: -1, "aria-label": `unfold ${nameOf(item)}`, onclick: () => unfold(item) }, make("span", { "aria-hidden": "true" }, "+"));
  const loop = isStep ? step.loop : null;
  const small = now(output?.value ?? null, loop)?.shape ?? [];
  const narrow = full && small.filter((size) => size > 1).length === 1 && Math.max(...small) <= SMALL;
  const sizeOnly = make("span", { class: "delta" }, miniature(delta && { ...now(delta, loop), data: null, image: null, shape: [1] }, "δ", false));
  const both = isStep && output && full
    ? make("span", { class: narrow ? "both columns" : "both" }, miniature(now(output.value, loop), "value", true), make("span", { class: "delta" }, miniature(now(output.delta, loop), "δ", true)))
    : null;
  const body = make("button", { class: `card ${isStep ? step.kind : box.kind}`, type: "button", tabindex: -1, onclick: () => select(item), ondblclick: () => isStep || unfold(item) },
    make("span", { class: "head" }, make("b", {}, `${nameOf(item)}${times}`), " ", nameOf(item) === kind ? null : make("span", { class: "soft" }, kind)),
    full && isStep && step.equation ? make("span", { "aria-hidden": "true" }, formula(step.equation, false)) : null,
    make("span", { class: "unseen" }, said),
    make("span", { class: "numbers", "aria-hidden": "true" }, both ?? (delta === null && isStep ? null : sizeOnly)));
  return make("div", { class: "node" }, body, toggle);
};

// Frames keep strangers out only where dagre knows of them, and then need more room.
const arrange = (direction, sizes, frames, framed) => {
  const graph = new dagre.graphlib.Graph({ compound: true });
  const tight = items.length > ROOM;
  graph.setGraph({ rankdir: direction, nodesep: tight ? 14 : 18, ranksep: tight ? 26 : 30, marginx: 10, marginy: 24 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const item of items) graph.setNode(String(item), { ...sizes.get(item) });
  for (const key of framed ? frames : []) graph.setNode(key, {});
  for (const key of framed ? frames : []) if (containers.get(key).up !== null) graph.setParent(key, containers.get(key).up);
  for (const item of items) {
    const up = typeof item === "number" ? chains[item].at(-1) : containers.get(item).up;
    // Parameters stand outside of the frames, as what comes in; inside, they would push neighbouring frames apart.
    if (framed && up !== undefined && up !== null && !(typeof item === "number" && leaf(steps[item]))) graph.setParent(String(item), up);
  }
  // What a loop carries on goes against the flow; dagre is told of it the other way round.
  for (const { from, to, carried } of edges) if (!carried || !graph.hasEdge(String(to), String(from))) graph.setEdge(String(carried ? to : from), String(carried ? from : to), { weight: carried ? 0 : 1 });
  dagre.layout(graph);
  return { direction, framed, graph, at: (item) => graph.node(String(item)), width: graph.graph().width, height: graph.graph().height };
};

const smooth = (points) => {
  const [first, ...rest] = points;
  let d = `M${first.x} ${first.y}`;
  rest.forEach((point, i) => {
    const last = i === rest.length - 1;
    const end = last ? point : { x: (point.x + rest[i + 1].x) / 2, y: (point.y + rest[i + 1].y) / 2 };
    d += last && !i ? `L${end.x} ${end.y}` : `Q${point.x} ${point.y} ${end.x} ${end.y}`;
  });
  return d;
};
const arrow = (points) => {
  const [a, b] = points.slice(-2);
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const [ux, uy] = [(b.x - a.x) / length, (b.y - a.y) / length];
  return `M${b.x} ${b.y}L${b.x - 7 * ux - 3.5 * uy} ${b.y - 7 * uy + 3.5 * ux}L${b.x - 7 * ux + 3.5 * uy} ${b.y - 7 * uy - 3.5 * ux}z`;
};

// What the charts below leave of the window.
const tallest = () => Math.max(360, innerHeight - (parent.classList.contains("projected") ? 190 : 420));
const scaleFor = (graph, limits) => Math.min(limits[0] / graph.width, limits[1] / graph.height);
const heldBy = (item) => (typeof item === "number" ? chains[item] : chains[containers.get(item).steps[0]].slice(0, chains[containers.get(item).steps[0]].indexOf(item)));
// The frame around what a container holds; none where a stranger stands in it.
const outline = (plan, key) => {
  if (plan.framed) return plan.graph.node(key);
  const around = (list) => {
    const all = list.map(plan.at);
    const [left, right] = [Math.min(...all.map((n) => n.x - n.width / 2)) - 9, Math.max(...all.map((n) => n.x + n.width / 2)) + 9];
    const [top, bottom] = [Math.min(...all.map((n) => n.y - n.height / 2)) - 16, Math.max(...all.map((n) => n.y + n.height / 2)) + 9];
    return { x: (left + right) / 2, y: (top + bottom) / 2, width: right - left, height: bottom - top };
  };
  const inside = items.filter((item) => heldBy(item).includes(key));
  const strangers = (box) => items.some((item) => {
    const node = plan.at(item);
    return !inside.includes(item) && Math.abs(node.x - box.x) * 2 < node.width + box.width && Math.abs(node.y - box.y) * 2 < node.height + box.height;
  });
  const core = inside.filter((item) => !(typeof item === "number" && leaf(steps[item])));
  return [inside, core].filter((list) => list.length).map(around).find((box) => !strangers(box)) ?? null;
};
// What a loop carries to its next step: an arc beside the cards.
const arc = (plan, from, to) => {
  const [a, b] = [plan.at(from), plan.at(to)];
  if (plan.direction === "LR") {
    const low = Math.max(a.y + a.height / 2, b.y + b.height / 2);
    return [{ x: a.x, y: a.y + a.height / 2 }, { x: a.x, y: low + 18 }, { x: (a.x + b.x) / 2, y: low + 18 }, { x: b.x, y: low + 18 }, { x: b.x, y: b.y + b.height / 2 }];
  }
  const far = Math.max(a.x + a.width / 2, b.x + b.width / 2);
  return [{ x: a.x + a.width / 2, y: a.y }, { x: far + 18, y: a.y }, { x: far + 18, y: (a.y + b.y) / 2 }, { x: far + 18, y: b.y }, { x: b.x + b.width / 2, y: b.y }];
};
const draw = () => {
  items = visible();
  edges = edgesOf(items);
  const full = items.length <= ROOM;
  cards = new Map(items.map((item) => [item, card(item, full)]));
  stage.style.transform = "none";
  stage.replaceChildren(...cards.values());
  const sizes = new Map(items.map((item) => [item, { width: cards.get(item).offsetWidth, height: cards.get(item).offsetHeight }]));
  const frames = [...containers.keys()].filter((key) => open.has(key) && items.some((item) => heldBy(item).includes(key)));
  const room = [frame.clientWidth - 8, tallest()];
  const ways = full ? [["LR", false], ["TB", false], ["LR", true], ["TB", true]] : [["TB", frames.length > 0]];
  const plans = ways.map(([direction, framed]) => arrange(direction, sizes, frames, framed));
  const plan = plans.reduce((best, other) => (scaleFor(other, room) > scaleFor(best, room) * 1.02 ? other : best));
  const { width, height } = plan;
  drawnSize = [width, height];
  for (const item of items) {
    const { x, y } = plan.at(item);
    const size = sizes.get(item);
    cards.get(item).style.translate = `${x - size.width / 2}px ${y - size.height / 2}px`;
  }
  const boxes = frames.map((key) => {
    const found = outline(plan, key);
    if (!found) return "";
    const { x, y, width: w, height: h } = found;
    const { kind, label, count } = containers.get(key);
    const fold = make("button", { class: "fold", type: "button", tabindex: -1, title: "fold it", onclick: () => foldUp(key) }, make("span", { "aria-hidden": "true" }, "− "), `${label}${count ? ` ×${count}` : ""}`);
    return make("div", { class: `box ${kind}`, style: `translate:${x - w / 2}px ${y - h / 2}px;width:${w}px;height:${h}px` }, fold);
  });
  const lines = edges.map(({ key, from, to, carried }) => {
    const points = carried ? arc(plan, from, to) : plan.graph.edge(String(from), String(to)).points;
    return make("g", { class: carried ? "edge carried" : "edge", "data-edge": key }, make("path", { d: smooth(points) }), make("path", { class: "tip", d: arrow(points) }));
  });
  stage.prepend(...boxes, make("svg", { width, height, "aria-hidden": "true" }, lines));
  fit();
  mark();
};

const fit = () => {
  const [width, height] = drawnSize;
  const best = Math.min((frame.clientWidth - 8) / width, tallest() / height, 1.5);
  const scale = zoom ?? Math.max(best, Math.min(0.8, Math.max(0.55, (frame.clientWidth - 8) / width)));
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
  for (const line of stage.querySelectorAll(".edge")) line.classList.toggle("flow", line.dataset.edge.startsWith(`${chosen}→`));
  return cards.get(chosen);
};
const bring = (made) => {
  if (!made) return;
  const [card, view] = [made.getBoundingClientRect(), frame.getBoundingClientRect()];
  if (card.top < view.top || card.bottom > view.bottom) frame.scrollTop += card.top - view.top - view.height / 2 + card.height / 2;
  if (card.left < view.left || card.right > view.right) frame.scrollLeft += card.left - view.left - view.width / 2 + card.width / 2;
};
