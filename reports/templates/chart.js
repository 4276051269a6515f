"use strict";
// Scatter and line charts as SVG, from the data embedded in the page. Text is inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 600, height: 380, left: 62, right: 16, top: 14, bottom: 46 }; // pixels; chart() sets width and height

function element(name, attributes = {}, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// 3750000 with unit "B" is 3.75 MB; ten minutes or more are shown in minutes
function short(value, unit = "") {
  if (unit === "s") return value < 600 ? `${+value.toPrecision(3)} s` : `${+(value / 60).toPrecision(3)} min`;
  const size = Math.abs(value);
  for (const [power, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= power * 0.9999 && (unit || size >= 1e4)) return `${+(value / power).toPrecision(3)} ${prefix}${unit}`;
  return `${+value.toPrecision(4)} ${unit}`.trim();
}

function linearTicks(low, high, wanted = 8) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const wide = high / low > 300, steps = wide ? [1] : high / low > 8 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); 10 ** p <= high; p++)
    for (const s of steps) if (s * 10 ** p >= low && s * 10 ** p <= high) ticks.push(s * 10 ** p);
  return ticks.length > 7 ? ticks.filter((_, i) => i % 2 === 0) : ticks;
}

// {low, high, place(value) -> pixel, ticks}; log only if all values are positive
function scale(values, from, to, log, exact) {
  let low = Math.min(...values), high = Math.max(...values);
  log = log && low > 0;
  if (log) [low, high] = high / low > 1.01 ? [low / (high / low) ** 0.06, high * (high / low) ** 0.06] : [low / 1.5, high * 1.5];
  else { const margin = (high - low || Math.abs(high) || 1) * 0.07; [low, high] = [low - margin, high + margin]; }
  const map = log ? Math.log : (x) => x;
  const place = (value) => from + ((map(value) - map(low)) / (map(high) - map(low))) * (to - from);
  let ticks = exact ? [...new Set(values)].sort((a, b) => a - b) : log ? logTicks(low, high) : linearTicks(low, high);
  if (exact) ticks = ticks.filter((tick, i) => i === 0 || Math.abs(place(tick) - place(ticks[i - 1])) > 24);
  return { low, high, place, ticks };
}

function mark(shape, x, y, r = 5) {
  const polygon = (points) => element("polygon", { class: "mark", points: points.map(([a, b]) => `${x + a * r},${y + b * r}`).join(" ") });
  switch (shape % 5) {
    case 0: return element("circle", { class: "mark", cx: x, cy: y, r });
    case 1: return element("rect", { class: "mark", x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 });
    case 2: return polygon([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]);
    case 3: return polygon([[0, -1.25], [1.2, 0.95], [-1.2, 0.95]]);
    default: return polygon([[0, 1.25], [1.2, -0.95], [-1.2, -0.95]]);
  }
}

// points: {x, y, low, high, kind, shape, label, detail, faint}; lines: [{kind, at: [[x, y]]}], front: [[x, y]], references: [{title, value, within}]
function chart(container, { points, lines = [], front = [], references = [], xTitle, yTitle, xUnit = "", log = false, exact = false, below = false, title, onDetail }) {
  BOX.width = Math.max(280, container.clientWidth); // one unit is one pixel, so text has the same size on a phone
  BOX.height = Math.round(Math.max(260, BOX.width * 0.62));
  const { width, height, left, right, top, bottom } = BOX;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title });
  container.replaceChildren(svg);
  if (!points.length) {
    svg.append(element("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no run has both values"));
    return;
  }
  const values = points.map((p) => p.y), spread = Math.max(...values) - Math.min(...values) || Math.abs(values[0]) || 1;
  const clip = (v) => Math.min(Math.max(v, Math.min(...values) - spread / 2), Math.max(...values) + spread / 2);
  const ends = points.flatMap((p) => [p.low, p.high].filter((v) => v !== null).map(clip));
  const x = scale(points.map((p) => p.x), left, width - right, log, exact);
  const y = scale([...values, ...ends, ...references.filter((h) => h.within).map((h) => h.value)], height - bottom, top, false, false);
  axes(svg, x, y, { xTitle, yTitle, xUnit });
  for (const h of references.filter((h) => h.value > y.low && h.value < y.high)) {
    svg.append(element("line", { class: "reference", x1: left, x2: width - right, y1: y.place(h.value), y2: y.place(h.value) }));
    svg.append(element("text", { x: width - right, y: y.place(h.value) - 4, "text-anchor": "end" }, h.title));
  }
  if (front.length) svg.append(element("path", { class: "front", d: steps(front, x, y) }));
  for (const line of lines)
    svg.append(element("polyline", { class: `line k${line.kind}`, points: line.at.map(([a, b]) => `${x.place(a)},${y.place(b)}`).join(" ") }));
  draw(svg, points, x, y, clip, below, onDetail);
}

function steps(front, x, y) {
  return front.map(([a, b], i) => (i ? `H${x.place(a)}V${y.place(b)}` : `M${x.place(a)},${y.place(b)}`)).join("");
}

function axes(svg, x, y, { xTitle, yTitle, xUnit }) {
  const { width, height, left, right, top, bottom } = BOX;
  for (const tick of y.ticks) {
    svg.append(element("line", { class: "grid", x1: left, x2: width - right, y1: y.place(tick), y2: y.place(tick) }));
    svg.append(element("text", { x: left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const tick of x.ticks) {
    svg.append(element("line", { class: "grid", x1: x.place(tick), x2: x.place(tick), y1: top, y2: height - bottom }));
    svg.append(element("text", { x: x.place(tick), y: height - bottom + 18, "text-anchor": "middle" }, short(tick, xUnit)));
  }
  svg.append(element("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xTitle));
  svg.append(element("text", { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle));
}

// The chart is one tab stop; the arrow keys move between points.
function draw(svg, points, x, y, clip, below, onDetail) {
  const taken = [];
  const nodes = [...points].sort((a, b) => a.x - b.x || a.y - b.y).map((point, i) => {
    const [px, py] = [x.place(point.x), y.place(point.y)];
    const node = element("g", { class: `point k${point.kind}${point.faint ? " faint" : ""}`, tabindex: i ? -1 : 0, role: "img", "aria-label": point.detail });
    if (point.low !== null && point.high !== null)
      node.append(element("line", { x1: px, x2: px, y1: y.place(clip(point.low)), y2: y.place(clip(point.high)), "stroke-width": 1.5 }));
    node.append(mark(point.shape, px, py));
    const end = px > BOX.width * 0.4; // labels go on the empty side of the front
    const length = 6.5 * point.label.length, from = end ? px - 8 - length : px + 8; // about 6.5 pixels per character
    if (point.named && taken.every(([a, b, v]) => from > b || from + length < a || Math.abs(v - py) > 13)) {
      taken.push([from, from + length, py]);
      node.append(element("text", { class: "name", stroke: "none", x: px + (end ? -8 : 8), y: py + (below ? 15 : -7), "text-anchor": end ? "end" : "start" }, point.label));
    }
    return node;
  });
  const show = (i) => { nodes.forEach((n, j) => n.classList.toggle("at", i === j)); onDetail(nodes[i].getAttribute("aria-label")); };
  nodes.forEach((node, i) => {
    node.addEventListener("focus", () => show(i));
    node.addEventListener("pointerenter", () => show(i));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = nodes[(i + step + nodes.length) % nodes.length];
      nodes.forEach((n) => n.setAttribute("tabindex", n === next ? 0 : -1));
      next.focus();
    });
  });
  svg.append(...nodes);
}
