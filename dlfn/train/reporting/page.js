// The values of all curves at the step nearest to the pointer; or, with the arrow keys, at one step after the other.
const shown = (value) => {
  const size = Math.abs(value);
  return size && (size < 1e-4 || size >= 1e7) ? value.toExponential(3) : String(+value.toPrecision(4));
};
for (const chart of document.querySelectorAll(".chart[tabindex]")) {
  const plot = chart.querySelector(".plot");
  const { range: [low, high], curves } = JSON.parse(plot.dataset.curves);
  const cursor = plot.appendChild(document.createElement("div"));
  const tip = plot.appendChild(document.createElement("div"));
  cursor.className = "cursor";
  tip.className = "tip";
  tip.setAttribute("role", "status");
  let at = null;
  const visible = () => curves.filter(({ run }) => document.getElementById(`run-${run}`).checked);
  const steps = () => [...new Set(visible().flatMap((curve) => curve.steps))].sort((a, b) => a - b);
  const nearest = (list, step) => list.reduce((a, b) => (Math.abs(b - step) < Math.abs(a - step) ? b : a));
  const show = (step) => {
    at = step;
    cursor.hidden = tip.hidden = step === null;
    if (step === null) return;
    const share = (step - low) / (high - low);
    cursor.style.left = `${100 * share}%`;
    tip.style.left = share < 0.5 ? `calc(${100 * share}% + 8px)` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `calc(${100 - 100 * share}% + 8px)`;
    const lines = visible().map(({ name, run, steps, values }) => {
      const line = document.createElement("div");
      const own = nearest(steps, step);
      line.className = `swatch run-${run}`;
      line.textContent = `${name} ${shown(values[steps.indexOf(own)])}${own === step ? "" : ` (step ${own})`}`;
      return line;
    });
    tip.replaceChildren(`step ${step}`, ...lines);
  };
  show(null);
  plot.addEventListener("pointermove", ({ clientX }) => {
    const box = plot.getBoundingClientRect();
    const all = steps();
    show(all.length ? nearest(all, low + ((clientX - box.left) / box.width) * (high - low)) : null);
  });
  plot.addEventListener("pointerleave", () => show(null));
  chart.addEventListener("blur", () => show(null));
  chart.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const all = steps();
    if (event.key === "Escape") show(null);
    if (!move || !all.length) return;
    event.preventDefault();
    show(at === null ? all[move > 0 ? 0 : all.length - 1] : all[Math.min(all.length - 1, Math.max(0, all.indexOf(at) + move))]);
  });
}
