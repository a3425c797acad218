(() => {
  const figure = document.currentScript.closest("figure");
  const data = JSON.parse(figure.querySelector("script").textContent);
  const SVG = "http://www.w3.org/2000/svg", W = 720, H = 240, L = 52, R = 12, T = 12, B = 28;
  const make = (name, attributes, parent, text) => {
    const e = document.createElementNS(name in { div: 1, span: 1, button: 1, output: 1 } ? "http://www.w3.org/1999/xhtml" : SVG, name);
    for (const key in attributes) e.setAttribute(key, attributes[key]);
    if (text !== undefined) e.textContent = text;
    parent && parent.append(e);
    return e;
  };
  const short = (v) => v === null ? "not finite" : v === 0 ? "0" :
    Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(2).replace("e+", "e") : String(+v.toPrecision(4));
  const buffer = new DataView(new ArrayBuffer(4));
  const LAST = 0x7f800000;
  const number = (order) => {  // the float32 of a place among all
    buffer.setInt32(0, Math.min(Math.abs(Math.round(order)), LAST - 1));
    return Math.sign(order) * buffer.getFloat32(0);
  };
  const steps = (low, high, about) => {
    const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) found.push(Math.abs(v) < step / 1e6 ? 0 : v);
    return found;
  };
  const panel = (title, names, xs, series, full, start, label, scale) => {
    let [low, high] = start;
    const bar = make("div", { class: "bar" }, figure);
    make("span", {}, bar, title);
    names.forEach((name, i) => make("span", { class: "key-" + "ab"[i] }, bar, (i ? "╍╍ " : "── ") + name));
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, tabindex: 0, role: "img",
      "aria-label": `${title} of ${data.title}; arrows move, plus and minus zoom, 0 shows all` }, figure);
    const out = make("output", { "aria-live": "polite" }, figure, " ");
    const sx = (x) => L + (x - low) / (high - low) * (W - L - R);
    const draw = () => {
      svg.replaceChildren();
      let bottom = Infinity, top = -Infinity;
      xs.forEach((x, i) => x >= low && x <= high && series.forEach((s) => {
        if (s[i] !== null) { bottom = Math.min(bottom, scale(s[i])); top = Math.max(top, scale(s[i])); }
      }));
      if (!(bottom < top)) { bottom -= 1; top = bottom + 2; }
      const sy = (y) => T + (top - y) / (top - bottom) * (H - T - B);
      for (const y of steps(bottom, top, 4)) {
        make("line", { class: "grid", x1: L, x2: W - R, y1: sy(y), y2: sy(y) }, svg);
        make("text", { x: L - 6, y: sy(y) + 4, "text-anchor": "end" }, svg, label.y(y));
      }
      for (const x of steps(low, high, 6)) {
        make("line", { class: "grid", x1: sx(x), x2: sx(x), y1: T, y2: H - B }, svg);
        make("text", { x: sx(x), y: H - 8, "text-anchor": "middle" }, svg, label.x(x));
      }
      series.forEach((s, k) => {
        let path = "", pen = "M";
        xs.forEach((x, i) => {
          if (s[i] === null || x < low || x > high) { pen = "M"; return; }
          path += pen + sx(x).toFixed(1) + " " + sy(scale(s[i])).toFixed(1);
          pen = "L";
        });
        make("path", { class: "ab"[k], d: path }, svg);
      });
    };
    const read = (x) => {
      let best = 0;
      xs.forEach((at, i) => { if (Math.abs(at - x) < Math.abs(xs[best] - x)) best = i; });
      out.textContent = "x = " + label.x(xs[best]) + ": " + names.map((n, k) => n + " " + label.value(series[k][best])).join(", ");
      svg.querySelector(".cursor")?.remove();
      make("line", { class: "cursor", x1: sx(xs[best]), x2: sx(xs[best]), y1: T, y2: H - B }, svg);
    };
    const move = (by) => { const w = high - low; low = Math.max(full[0], Math.min(full[1] - w, low + by * w)); high = low + w; draw(); };
    const zoom = (by, at = (low + high) / 2) => {
      low = Math.max(full[0], at - (at - low) * by); high = Math.min(full[1], at + (high - at) * by); draw();
    };
    const all = () => { [low, high] = full; draw(); };
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      return low + ((event.clientX - box.left) / box.width * W - L) / (W - L - R) * (high - low);
    };
    svg.addEventListener("pointermove", (event) => read(place(event)));
    svg.addEventListener("click", (event) => read(place(event)));
    svg.addEventListener("dblclick", (event) => zoom(1 / 2, place(event)));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== svg) return;  // the page scrolls unless the plot was chosen
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1 / 1.25 : 1.25, place(event));
    }, { passive: false });
    const keys = { ArrowLeft: () => move(-0.1), ArrowRight: () => move(0.1), "+": () => zoom(1 / 1.5), "=": () => zoom(1 / 1.5),
      "-": () => zoom(1.5), 0: all };
    svg.addEventListener("keydown", (event) => {
      if (keys[event.key]) { event.preventDefault(); keys[event.key](); read((low + high) / 2); }
    });
    for (const [text, name, act] of [["←", "move left", () => move(-0.25)], ["→", "move right", () => move(0.25)],
      ["+", "zoom in", () => zoom(1 / 1.5)], ["−", "zoom out", () => zoom(1.5)], ["all", "show all", all]])
      make("button", { type: "button", "aria-label": `${name}, ${title}` }, bar, text).addEventListener("click", act);
    draw();
  };
  const { x, f } = data.curves;
  panel("f and f′", ["f", "f′"], x, [f, data.curves["f′"]], [-100, 100], [-6, 6], { x: short, y: short, value: short }, (v) => v);
  const bins = data.errors.dlfn.length;
  const middles = data.errors.dlfn.map((_, i) => -LAST + (2 * LAST + 1) * (i + 0.5) / bins);
  const log = (v) => Math.log10(Math.max(v, 0.01));
  const error = (v) => v === null ? "not measured" : v >= 1e8 ? "1e8 or not finite" : short(v) + " ULP";
  panel("largest error of f′", ["dlfn", "autodiff"], middles, [data.errors.dlfn, data.errors.autodiff], [-LAST, LAST], [-LAST, LAST],
    { x: (v) => short(+number(v).toPrecision(2)), y: (v) => short(+(10 ** v).toPrecision(2)), value: error }, log);
})();
