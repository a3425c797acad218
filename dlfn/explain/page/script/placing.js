// Where cards stand: dagre's layout, long chains of it broken into rows like a text, frames, and the lines of edges.
// Frames keep strangers out only where dagre knows of them, and then need more room.
const arrange = (direction, sizes, frames, framed) => {
  const graph = new dagre.graphlib.Graph({ compound: true });
  const tight = items.length > ROOM;
  graph.setGraph({ rankdir: direction, nodesep: tight ? 14 : 18, ranksep: tight ? 26 : 30, marginx: 10, marginy: 24 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const item of items) graph.setNode(String(item), { ...sizes.get(item) });
  for (const key of framed ? frames : []) graph.setNode(key, {});
  for (const key of framed ? frames : [])
    if (containers.get(key).up !== null) graph.setParent(key, containers.get(key).up);
  for (const item of items) {
    const up = typeof item === "number" ? chains[item].at(-1) : containers.get(item).up;
    // Parameters stand outside of the frames, as what comes in; inside, they would push neighbouring frames apart.
    if (framed && up !== undefined && up !== null && !(typeof item === "number" && leaf(steps[item])))
      graph.setParent(String(item), up);
  }
  // What a loop carries on goes against the flow; dagre is told of it the other way round.
  for (const { from, to, carried } of edges)
    if (!carried || !graph.hasEdge(String(to), String(from)))
      graph.setEdge(String(carried ? to : from), String(carried ? from : to), { weight: carried ? 0 : 1 });
  dagre.layout(graph);
  // Edges leave in the middle of a side and arrive so.
  const points = ({ from, to }) => {
    const [a, b] = [graph.node(String(from)), graph.node(String(to))];
    const inner = graph.edge(String(from), String(to)).points.slice(1, -1);
    if (direction === "LR") return [{ x: a.x + a.width / 2, y: a.y }, ...inner, { x: b.x - b.width / 2, y: b.y }];
    return [{ x: a.x, y: a.y + a.height / 2 }, ...inner, { x: b.x, y: b.y - b.height / 2 }];
  };
  const { width, height } = graph.graph();
  return { direction, framed, graph, width, height, points, at: (item) => graph.node(String(item)), row: () => 0 };
};

const columnsOf = (plan) => {
  const columns = [];
  for (const item of [...items].sort((a, b) => plan.at(a).x - plan.at(b).x)) {
    const { x, width } = plan.at(item);
    if (!columns.length || x - columns.at(-1).x > 1)
      columns.push({ x, left: x - width / 2, right: x + width / 2, items: [] });
    const column = columns.at(-1);
    Object.assign(column, { left: Math.min(column.left, x - width / 2), right: Math.max(column.right, x + width / 2) });
    column.items.push(item);
  }
  return columns;
};

// From left to right with the steps that all ways pass on one line, where dagre lets a chain climb.
const straightened = (plan) => {
  const line = new Set(way.map(standIn));
  const columns = columnsOf(plan);
  let last = 0;
  for (const column of columns) {
    const mine = column.items.find((item) => line.has(item));
    column.shift = mine === undefined ? last : -plan.at(mine).y;
    last = column.shift;
  }
  const columnAt = (x) => columns.find(({ left, right }) => left <= x && x <= right);
  const moved = (item) => {
    const node = plan.at(item);
    return { ...node, y: node.y + columnAt(node.x).shift };
  };
  const ends = items.map(moved).flatMap(({ y, height }) => [y - height / 2, y + height / 2]);
  const inner = (edge) =>
    plan
      .points(edge)
      .slice(1, -1)
      .filter(({ x }) => columnAt(x))
      .map(({ x, y }) => ({ x, y: y + columnAt(x).shift }));
  for (const edge of edges) if (!edge.carried) ends.push(...inner(edge).map(({ y }) => y));
  const top = Math.min(...ends) - 24;
  const at = (item) => {
    const node = moved(item);
    return { ...node, y: node.y - top };
  };
  const points = (edge) => {
    const [a, b] = [at(edge.from), at(edge.to)];
    return [
      { x: a.x + a.width / 2, y: a.y },
      ...inner(edge).map(({ x, y }) => ({ x, y: y - top })),
      { x: b.x - b.width / 2, y: b.y },
    ];
  };
  return { ...plan, height: Math.max(...ends) - top + 24, at, points };
};

// From left to right in so many rows, of about one width.
const GAP = 46;
const MANY = 60; // cards of which no more than a part is seen
const wrapped = (plan, count) => {
  const columns = columnsOf(plan);
  let rows = [];
  for (let limit = plan.width / count; rows.length === 0 || rows.length > count; limit *= 1.05) {
    rows = [];
    for (const column of columns) {
      if (!rows.length || column.right - rows.at(-1).left > limit)
        rows.push({ left: column.left, right: column.right, items: [] });
      Object.assign(rows.at(-1), { right: Math.max(rows.at(-1).right, column.right) });
      rows.at(-1).items.push(...column.items);
    }
  }
  const rowOf = new Map(rows.flatMap((row, i) => row.items.map((item) => [item, i])));
  const inside = ({ from, to, carried }) => !carried && rowOf.get(from) === rowOf.get(to);
  let height = 26;
  for (const row of rows) {
    const heights = row.items.flatMap((item) => [
      plan.at(item).y - plan.at(item).height / 2,
      plan.at(item).y + plan.at(item).height / 2,
    ]);
    for (const edge of edges)
      if (inside(edge) && row.items.includes(edge.from)) heights.push(...plan.points(edge).map(({ y }) => y));
    row.shift = { x: 22 - row.left, y: height - Math.min(...heights) };
    height += Math.max(...heights) - Math.min(...heights) + GAP;
    row.bottom = height - GAP;
  }
  const width = Math.max(...rows.map((row) => row.right - row.left)) + 44;
  const at = (item) => {
    const { x, y, ...size } = plan.at(item);
    const { shift } = rows[rowOf.get(item)];
    return { x: x + shift.x, y: y + shift.y, ...size };
  };
  const crossing = edges.filter((edge) => !inside(edge) && !edge.carried);
  const points = (edge) => {
    const { shift } = rows[rowOf.get(edge.from)];
    if (inside(edge)) return plan.points(edge).map(({ x, y }) => ({ x: x + shift.x, y: y + shift.y }));
    // Out at the right, back below its row, in from the left.
    const [a, b] = [at(edge.from), at(edge.to)];
    const lane =
      rows[rowOf.get(edge.to) - 1].bottom +
      12 +
      5 * (crossing.findIndex(({ from, to }) => from === edge.from && to === edge.to) % 5);
    const [right, left] = [a.x + a.width / 2, b.x - b.width / 2];
    return [
      { x: right, y: a.y },
      { x: right + 12, y: a.y },
      { x: right + 12, y: lane },
      { x: left - 14, y: lane },
      { x: left - 14, y: b.y },
      { x: left, y: b.y },
    ];
  };
  return {
    ...plan,
    width,
    height: height - GAP + 20,
    at,
    points,
    row: (item) => rowOf.get(item),
    corners: (edge) => !inside(edge),
  };
};

// What the charts below leave of the window.
const tallest = () => Math.max(360, innerHeight - (parent.classList.contains("projected") ? 190 : 420));
const LEAST = 0.5; // of the scale, as smaller letters cannot be read
const scaleFor = (graph, limits) => Math.min(limits[0] / graph.width, limits[1] / graph.height);
const heldBy = (item) =>
  typeof item === "number"
    ? chains[item]
    : chains[containers.get(item).steps[0]].slice(0, chains[containers.get(item).steps[0]].indexOf(item));
// The frames around what a container holds, one in each row; none where a stranger stands in it.
const outlines = (plan, key) => {
  if (plan.framed) return [plan.graph.node(key)];
  const around = (list) => {
    const all = list.map(plan.at);
    const [left, right] = [
      Math.min(...all.map((n) => n.x - n.width / 2)) - 9,
      Math.max(...all.map((n) => n.x + n.width / 2)) + 9,
    ];
    const [top, bottom] = [
      Math.min(...all.map((n) => n.y - n.height / 2)) - 16,
      Math.max(...all.map((n) => n.y + n.height / 2)) + 9,
    ];
    return { x: (left + right) / 2, y: (top + bottom) / 2, width: right - left, height: bottom - top };
  };
  const inside = items.filter((item) => heldBy(item).includes(key));
  const strangers = (box) =>
    items.some((item) => {
      const node = plan.at(item);
      // What goes into each step of a loop alike may stand in its frame.
      if (containers.get(key).kind === "loop" && typeof item === "number" && leaf(steps[item])) return false;
      return (
        !inside.includes(item) &&
        Math.abs(node.x - box.x) * 2 < node.width + box.width &&
        Math.abs(node.y - box.y) * 2 < node.height + box.height
      );
    });
  const core = inside.filter((item) => !(typeof item === "number" && leaf(steps[item])));
  return [...new Set(inside.map(plan.row))]
    .map((row) => {
      const choices = [inside, core].map((list) => list.filter((item) => plan.row(item) === row));
      return choices
        .filter((list) => list.length)
        .map(around)
        .find((box) => !strangers(box));
    })
    .filter(Boolean);
};
// What a loop carries to its next step: an arc beside the cards.
const arc = (plan, from, to) => {
  const [a, b] = [plan.at(from), plan.at(to)];
  if (plan.row(from) !== plan.row(to))
    return [
      { x: a.x, y: a.y - a.height / 2 },
      { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 },
      { x: b.x, y: b.y + b.height / 2 },
    ];
  if (plan.direction === "LR") {
    const low = Math.max(a.y + a.height / 2, b.y + b.height / 2);
    return [
      { x: a.x, y: a.y + a.height / 2 },
      { x: a.x, y: low + 18 },
      { x: (a.x + b.x) / 2, y: low + 18 },
      { x: b.x, y: low + 18 },
      { x: b.x, y: b.y + b.height / 2 },
    ];
  }
  const far = Math.max(a.x + a.width / 2, b.x + b.width / 2);
  return [
    { x: a.x + a.width / 2, y: a.y },
    { x: far + 18, y: a.y },
    { x: far + 18, y: (a.y + b.y) / 2 },
    { x: far + 18, y: b.y },
    { x: b.x + b.width / 2, y: b.y },
  ];
};
const angular = (points) => points.map(({ x, y }, i) => `${i ? "L" : "M"}${x} ${y}`).join("");
// Through all points, leaving and arriving in the direction of the flow.
const smooth = (points, across) => {
  let d = `M${points[0].x} ${points[0].y}`;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    const [dx, dy] = across ? [(b.x - a.x) / 2, 0] : [0, (b.y - a.y) / 2];
    d += `C${a.x + dx} ${a.y + dy} ${b.x - dx} ${b.y - dy} ${b.x} ${b.y}`;
  }
  return d;
};
const rounded = (points) => {
  const [first, ...rest] = points;
  let d = `M${first.x} ${first.y}`;
  rest.forEach((point, i) => {
    const last = i === rest.length - 1;
    const end = last ? point : { x: (point.x + rest[i + 1].x) / 2, y: (point.y + rest[i + 1].y) / 2 };
    d += last && !i ? `L${end.x} ${end.y}` : `Q${point.x} ${point.y} ${end.x} ${end.y}`;
  });
  return d;
};
const arrow = (points, across) => {
  const [a, b] =
    across === undefined
      ? points.slice(-2)
      : [{ x: points.at(-1).x - across, y: points.at(-1).y - (1 - across) }, points.at(-1)];
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const [ux, uy] = [(b.x - a.x) / length, (b.y - a.y) / length];
  return `M${b.x} ${b.y}L${b.x - 7 * ux - 3.5 * uy} ${b.y - 7 * uy + 3.5 * ux}L${b.x - 7 * ux + 3.5 * uy} ${b.y - 7 * uy - 3.5 * ux}z`;
};

// What is seen at a glance is as large as it can be; more than that is read from top to bottom.
const choose = (sizes, frames, room) => {
  if (items.length > MANY) return arrange("TB", sizes, frames, frames.length > 0);
  const across = arrange("LR", sizes, frames, false);
  const straight = straightened(across);
  const plans = [
    straight,
    across,
    ...[straight, across].flatMap((plan) => [2, 3, 4, 5].map((count) => wrapped(plan, count))),
  ];
  // A loop is better seen in one piece.
  const better = frames.some((key) => containers.get(key).kind === "loop") ? 1.6 : 1.1;
  const best = plans.reduce((one, other) =>
    scaleFor(other, room) > better * scaleFor(one, room) && scaleFor(one, room) < 1.2 ? other : one,
  );
  if (scaleFor(best, room) > 0.7) return best;
  const down = arrange("TB", sizes, frames, false);
  return scaleFor(best, room) < Math.max(LEAST, scaleFor(down, room)) ? down : best;
};
