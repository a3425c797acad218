// The backward pass, card by card: from the result to where each δ arrives.
const HINT =
  "δ of a value is the derivative of the result by it. Choose a step, by a click or the arrow keys, to see where its δ comes from.";
const said = make("p", { class: "said", role: "status" }, HINT);
let turn = null; // how many cards the walk has reached; null: no walk
let timer = null;
const order = () => items.filter((item) => deltaOf(steps[lastOf(item)]) !== null).sort((a, b) => lastOf(b) - lastOf(a));

const sentence = (item) => {
  const step = steps[lastOf(item)];
  const delta = deltaOf(step);
  const size = delta.shape.length ? `norm ${number(delta.norm, 3)}` : number(delta.data ?? delta.norm);
  const from = [...new Set(step.terms.map((term) => nameOf(standIn(term.user) ?? term.user)))];
  if (!from.length) return `δ of ${nameOf(item)} is ${size}: here the backward pass begins.`;
  return `δ of ${nameOf(item)}, ${size}, ${from.length > 1 ? "is the sum of what comes from" : "comes from"} ${from.join(" and ")}.`;
};
const turnTo = (next) => {
  const walk = order();
  turn = Math.max(0, Math.min(walk.length, next));
  stage.classList.add("walking");
  const reached = new Set(walk.slice(0, turn));
  for (const [item, made] of cards) made.classList.toggle("reached", reached.has(item));
  if (turn > 0) {
    select(walk[turn - 1], { walk: true });
    bring(cards.get(walk[turn - 1]));
    said.textContent = `${turn} of ${walk.length}: ${sentence(walk[turn - 1])}`;
  } else said.textContent = "Before the backward pass: no δ is known.";
  if (turn === walk.length) pause();
};
const pause = () => {
  clearInterval(timer);
  timer = null;
  playButton.textContent = "▶ play";
  playButton.setAttribute("aria-pressed", "false");
};
const start = () => {
  if (turn === null || turn >= order().length) turnTo(0);
  timer = setInterval(() => turnTo(turn + 1), 1600 / +speed.value);
  playButton.textContent = "❚❚ pause";
  playButton.setAttribute("aria-pressed", "true");
};
const stop = () => {
  pause();
  turn = null;
  stage.classList.remove("walking");
  said.textContent = HINT;
};
const playButton = make(
  "button",
  { type: "button", class: "play", "aria-pressed": "false", onclick: () => (timer === null ? start() : pause()) },
  "▶ play",
);
const speed = make(
  "select",
  { "aria-label": "speed of the walk", onchange: () => timer !== null && (pause(), start()) },
  [
    ["½ ×", 0.5],
    ["1 ×", 1],
    ["2 ×", 2],
    ["4 ×", 4],
  ].map(([text, value]) => make("option", { value, selected: value === 1 }, text)),
);
const player = make(
  "div",
  { class: "player", role: "group", "aria-label": "the backward pass, step by step" },
  make("span", { class: "soft" }, "backward pass"),
  playButton,
  make(
    "button",
    {
      type: "button",
      "aria-label": "one step back towards the result",
      onclick: () => (pause(), turnTo((turn ?? 0) - 1)),
    },
    "◂",
  ),
  make(
    "button",
    { type: "button", "aria-label": "one step on", onclick: () => (pause(), turnTo((turn ?? 0) + 1)) },
    "▸",
  ),
  make("button", { type: "button", onclick: () => stop() }, "show all"),
  speed,
);
