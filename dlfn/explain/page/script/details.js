// All about the chosen step, or the chosen container.
const details = make("section", { class: "details", "aria-label": "the chosen step", tabindex: -1 });
const part = (title, ...content) => make("section", { class: "part" }, make("h3", {}, title), content);
const goTo = (item) => make("button", { class: "link", type: "button", onclick: () => select(item) }, nameOf(item));

const agreement = (difference, ok) => {
  if (difference === null) return make("td", { class: "soft" }, "—");
  return make("td", {}, number(difference, 2), ok ? "" : make("strong", { class: "bad" }, " disagrees"));
};

// A wide table moves sideways by itself, by the keyboard too.
const scrolled = (label, heads, rows) => {
  const head = heads.map((text) => make("th", { scope: "col" }, text));
  const table = make("table", { class: "facts" }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows));
  return make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, table);
};

const parametersOf = (list, loop) => {
  const rows = list.map((each) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, each.path, " ", make("span", { class: "soft" }, shapeOf(each.shape))),
      make("td", {}, number(each.value.norm)),
      make("td", {}, number(each.gradient?.norm ?? 0)),
      agreement(each.backprop, each.ok),
      agreement(each.autodiff, each.ok),
    ),
  );
  const heads = ["parameter", "norm", "norm of its gradient", "hand rule − backprop", "hand rule − autodiff"];
  return scrolled("gradients of parameters", heads, rows);
};

const slider = (id) => {
  const { length } = loops[id];
  const input = make("input", {
    type: "range",
    min: 0,
    max: length - 1,
    value: stepAt[id],
    "aria-label": `step of ${loopName(id)}`,
    oninput: () => moveLoop(id, +input.value, true),
  });
  return make(
    "label",
    { class: "slider", "data-loop": id },
    `step of ${loopName(id)} `,
    input,
    make("output", {}, `${stepAt[id]} of ${length - 1}`),
  );
};

const termsOf = (step, index, delta) => {
  const terms = step.terms.filter((term) => term.output === index);
  if (delta === null)
    return [
      make(
        "p",
        { class: "note" },
        step.kind === "argument" || step.kind === "constant"
          ? "The function is not differentiated in it."
          : "No derivative reaches this value: the result does not depend on it, or only through what has no derivative.",
      ),
    ];
  if (!terms.length)
    return [
      make(
        "p",
        { class: "note" },
        step.id === steps.length - 1
          ? "The result itself: δ = 1, where the backward pass begins."
          : "It is handed on as it is.",
      ),
    ];
  const one = terms.length === 1;
  const sum = terms.flatMap((term, i) => [i ? " + " : "", goTo(term.user)]);
  return [
    make(
      "p",
      {},
      one
        ? "It is used once; δ is what comes back from "
        : `It is used ${terms.length} times; δ is the sum of what comes back: `,
      sum,
      one && steps[terms[0].user].rule ? ", by its backward rule:" : ".",
    ),
    one ? (steps[terms[0].user].rule ? stated(steps[terms[0].user].rule) : null) : null,
    one
      ? null
      : terms.map((term) =>
          make(
            "details",
            { open: terms.length <= 4 },
            make(
              "summary",
              {},
              `the term of ${nameOf(term.user)}, as its ${ordinal(term.operand)} input, norm ${number(term.value.norm)}`,
            ),
            showArray(term.value, "term", step.loop),
          ),
        ),
  ];
};
const ordinal = (index) => ["first", "second", "third", "fourth", "fifth"][index] ?? `${index + 1}th`;

const sourceOf = (source) =>
  source
    ? part(
        "Source",
        make("p", { class: "note" }, `${source.file}:${source.line}`),
        source.code ? make("pre", {}, source.code) : null,
      )
    : null;

const aboutStep = (step) => {
  const path = chains[step.id].map((key) => [goTo(key), " / "]);
  const parts = [
    make("p", { class: "path" }, path),
    make(
      "h2",
      {},
      nameOf(step.id),
      " ",
      make(
        "span",
        { class: "soft" },
        step.kind === "primitive"
          ? step.op === nameOf(step.id)
            ? "a primitive of JAX"
            : `${step.op}, a primitive of JAX`
          : step.op === step.name
            ? step.kind
            : step.op,
      ),
    ),
  ];
  const loopsAround = loopChain(step.loop);
  if (loopsAround.length) parts.push(loopsAround.map(slider));
  if (standIn(step.id) !== step.id && chains[step.id].some((key) => !open.has(key)))
    parts.push(make("button", { type: "button", onclick: () => reveal(step.id) }, "show it in the graph"));
  if (step.equation || step.rule || step.reason) {
    parts.push(
      make(
        "div",
        { class: "rules" },
        step.equation ? part("Equation", stated(step.equation)) : null,
        step.rule
          ? part(
              "Backward rule",
              stated(step.rule),
              step.rule.includes("\\bar")
                ? make(
                    "p",
                    { class: "note" },
                    "A bar means δ: of an input on the left, of what the step makes on the right.",
                  )
                : null,
            )
          : null,
        step.reason ? make("p", { class: "note" }, step.reason) : null,
      ),
    );
  }
  step.outputs.forEach((output, i) => {
    const which = step.outputs.length > 1 ? ` of output ${i + 1}` : "";
    parts.push(
      make(
        "div",
        { class: "pair" },
        part(
          `Value${which}`,
          make("p", { class: "note" }, `${shapeOf(output.shape)}, ${output.dtype}`),
          output.value ? showArray(output.value, "value", step.loop) : null,
        ),
        part(
          `δ${which}, the derivative of the result by it`,
          output.delta ? showArray(output.delta, "δ", step.loop) : make("p", { class: "note" }, "none"),
        ),
      ),
    );
    parts.push(part(`Where δ${which} comes from`, termsOf(step, i, output.delta)));
  });
  if (step.inputs.length)
    parts.push(
      part(
        "Inputs",
        make(
          "ul",
          {},
          step.inputs.map((input) =>
            make(
              "li",
              {},
              goTo(input.step),
              input.label && input.label !== steps[input.step].name ? ` as ${input.label}` : "",
              input.carried ? " from the step before" : "",
            ),
          ),
        ),
      ),
    );
  // Data name a parameter where it is used first; its own step shows it too.
  const own = steps.flatMap((each) => each.parameters).filter(({ path }) => path === step.name);
  const parameters = step.kind === "parameter" ? own : step.parameters;
  if (parameters.length) parts.push(part("Gradients", parametersOf(parameters)));
  const costs = [
    step.flops ? quantity(step.flops, "FLOP") : null,
    step.bytes ? quantity(step.bytes, "B read and written") : null,
  ].filter(Boolean);
  if (costs.length) parts.push(part("Cost", make("p", {}, costs.join(" · "))));
  if (step.source) parts.push(sourceOf(step.source));
  return parts;
};

const MOST = 80;
const aboutContainer = (box) => {
  const own = box.steps.map((id) => steps[id]);
  const shown = own.filter((step) => !step.minor);
  const kind = box.kind === "loop" ? `a loop of ${box.count} steps` : box.count ? `${box.count} alike` : "a layer";
  const parameters = own.flatMap((step) => step.parameters);
  const rows = shown
    .slice(0, MOST)
    .map((step) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, goTo(step.id)),
        make("td", {}, step.op),
        make("td", {}, number(normNow(step, step.outputs[0]?.value ?? null) ?? 0)),
        make("td", {}, deltaOf(step) ? number(normNow(step, deltaOf(step))) : "—"),
      ),
    );
  const flops = own.reduce((sum, step) => sum + (step.flops ?? 0), 0);
  return [
    box.up === null ? null : make("p", { class: "path" }, goTo(box.up), " /"),
    make("h2", {}, box.label, " ", make("span", { class: "soft" }, kind)),
    make(
      "button",
      { type: "button", onclick: () => (open.has(box.key) ? foldUp(box.key) : unfold(box.key)) },
      open.has(box.key) ? "fold" : "unfold",
    ),
    box.kind === "loop" ? [slider(+box.key.split(" ")[1]), sourceOf(loops[+box.key.split(" ")[1]].source)] : null,
    flops ? make("p", { class: "note" }, `${quantity(flops, "FLOP")} in ${own.length} steps`) : null,
    part(
      "Steps",
      scrolled("steps", ["step", "op", "norm of the value", "norm of δ"], rows),
      shown.length > MOST
        ? make("p", { class: "note" }, `and ${shown.length - MOST} more: unfold it to reach them`)
        : null,
    ),
    parameters.length ? part("Parameters", parametersOf(parameters)) : null,
  ];
};

const showDetails = () => {
  const parts =
    selected === null
      ? [make("p", {}, "There are no steps.")]
      : typeof selected === "number"
        ? aboutStep(steps[selected])
        : aboutContainer(containers.get(selected));
  details.replaceChildren(...parts.flat(Infinity).filter((each) => each !== null && each !== undefined));
  // What scrolls must be reached by the keyboard.
  for (const each of details.querySelectorAll(".scroll, .formula.display"))
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
};
