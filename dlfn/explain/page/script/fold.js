// Layers, loops and repeated blocks as containers, which are open or folded.
const ROOM = 24; // so many nodes are seen at a glance
const containers = new Map();
const chains = steps.map(() => []); // of each step, the keys of its containers from the outermost

const groupChain = (id) => (id === null ? [] : [...groupChain(groups[id].parent), `group ${id}`]);
const loopChain = (id) => (id === null ? [] : [...loopChain(loops[id].parent), id]);
const shared = (a, b) =>
  a.slice(0, a.findIndex((key, i) => key !== b[i]) < 0 ? a.length : a.findIndex((key, i) => key !== b[i]));

const leaf = (step) => step.inputs.length === 0 && step.kind !== "argument";

const place = () => {
  // A loop stands in the deepest group that holds all of its steps.
  const inside = loops.map((loop) => steps.filter((step) => loopChain(step.loop).includes(loop.id)));
  const depth = inside.map((own) => (own.length ? own.map((step) => groupChain(step.group)).reduce(shared).length : 0));
  for (const step of steps) {
    const found = groupChain(step.group);
    for (const id of loopChain(step.loop).reverse()) found.splice(Math.min(depth[id], found.length), 0, `loop ${id}`);
    chains[step.id] = found;
  }
  // A parameter without a layer of its own is in that of its users.
  for (const step of steps) {
    if (!leaf(step) || chains[step.id].length || !users[step.id].length) continue;
    const around = users[step.id].map(({ user }) => chains[user]).reduce(shared);
    chains[step.id] = around.slice(
      0,
      [...around, "loop"].findIndex((key) => key.startsWith("loop")),
    );
  }
  for (const step of steps) {
    chains[step.id].forEach((key, i) => {
      if (!containers.has(key)) {
        const [kind, id] = key.split(" ");
        const about = kind === "loop" ? loops[id] : groups[id];
        const label = kind === "loop" ? loopName(id) : about.label;
        containers.set(key, {
          key,
          kind,
          label,
          count: kind === "loop" ? about.length : 0,
          up: chains[step.id][i - 1] ?? null,
          steps: [],
        });
      }
      containers.get(key).steps.push(step.id);
    });
  }
};

// Neighbours that do the same with equal shapes are one container of their own, or their parent if that holds nothing else.
const repeats = () => {
  if (steps.length <= ROOM) return;
  const kin = new Map();
  for (const box of containers.values()) if (box.kind === "group") kin.set(box.up, [...(kin.get(box.up) ?? []), box]);
  const alike = (box) => box.steps.map((id) => `${steps[id].op} ${steps[id].outputs.map((o) => o.shape)}`).join();
  for (const [up, boxes] of kin) {
    for (let i = 0, j; i < boxes.length; i = j) {
      const form = alike(boxes[i]);
      for (j = i + 1; j < boxes.length && alike(boxes[j]) === form; j++);
      if (j - i < 3) continue;
      const run = boxes.slice(i, j);
      const all = run.flatMap((box) => box.steps);
      if (up !== null && all.length === containers.get(up).steps.length) {
        containers.get(up).count = run.length;
        continue;
      }
      const key = `repeat ${all[0]}`;
      const label = `${run[0].label} … ${run.at(-1).label}`;
      containers.set(key, { key, kind: "repeat", label, count: run.length, up, steps: all });
      for (const id of all)
        chains[id].splice(chains[id].indexOf(run.find((box) => box.steps.includes(id)).key), 0, key);
      for (const box of run) box.up = key;
    }
  }
};

const open = new Set();
const show = { minor: false, parameters: true };
const hidden = (step) => (step.minor && !show.minor) || (!show.parameters && leaf(step));
// What stands for a step in the graph: itself, the outermost folded container, or nothing.
const standIn = (id) => {
  const folded = chains[id].find((key) => !open.has(key));
  return folded ?? (hidden(steps[id]) ? null : id);
};
const visible = () => [...new Set(steps.map((step) => standIn(step.id)).filter((item) => item !== null))];

const openWhatFits = () => {
  const order = [...containers.values()].sort(
    (a, b) => chains[a.steps[0]].indexOf(a.key) - chains[b.steps[0]].indexOf(b.key),
  );
  const many = steps.filter((step) => !hidden(step)).length > ROOM;
  for (const box of order) {
    if ((box.count > 0 && box.kind !== "loop" && many) || (box.up !== null && !open.has(box.up))) continue;
    open.add(box.key);
    if (visible().length > ROOM) open.delete(box.key);
  }
};

// Edges between what is seen; of a hidden step, from its inputs on.
const edgesOf = (items) => {
  const seen = new Set(items);
  const sources = (id, carried) => {
    const item = standIn(id);
    if (item !== null) return seen.has(item) ? [[item, carried]] : [];
    return steps[id].inputs.flatMap((input) => sources(input.step, carried || input.carried));
  };
  const found = new Map();
  for (const step of steps) {
    const to = standIn(step.id);
    if (to === null) continue;
    for (const input of step.inputs) {
      for (const [from, carried] of sources(input.step, input.carried)) {
        const key = `${from}→${to}`;
        if (from !== to && !(found.get(key)?.carried === false)) found.set(key, { key, from, to, carried });
      }
    }
  }
  return [...found.values()];
};

place();
repeats();
show.parameters = steps.filter((step) => !step.minor).length <= 40;
openWhatFits();
