"use strict";
// The charts of a task as Plotly figures, from the data embedded in the page.

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x"];
const SIGNS = ["●", "■", "◆", "▲", "▼", "✚", "✖"]; // the symbols as text, for the legend
const DASHES = ["solid", "dash", "dot", "dashdot"];
const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

// Plotly reads some markup in its texts; a record's text is shown as it is
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function look(index) {
  const kind = index % SYMBOLS.length, turn = Math.floor(index / SYMBOLS.length);
  return { kind, colour: colour(`c${kind}`), symbol: SYMBOLS[(kind + turn) % 7], sign: SIGNS[(kind + turn) % 7] };
}

// 3750000 with unit "B" is 3.75 MB; ten minutes or more are shown in minutes
function short(value, unit = "") {
  if (unit === "s") return value >= 600 ? `${+(value / 60).toPrecision(3)} min` : `${+value.toPrecision(3)} s`;
  if (unit === "ratio") return `${+value.toPrecision(3)}`;
  const size = Math.abs(value);
  for (const [power, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= power * 0.9999 && (unit || size >= 1e4)) return `${+(value / power).toPrecision(3)} ${prefix}${unit}`;
  return `${+value.toPrecision(4)} ${unit}`.trim();
}

function axis(title, more = {}) {
  const line = colour("line");
  return { title: { text: plain(title).replaceAll("\n", "<br>"), standoff: 8 }, gridcolor: line, linecolor: line, zeroline: false, automargin: true, exponentformat: "SI", ...more };
}

// ticks of a log axis at 1, 2, 5, 10, ...
function roundTicks() {
  const tickvals = [1, 10, 100, 1e3, 1e4, 1e5].flatMap((power) => [power, 2 * power, 5 * power]);
  return { tickvals, ticktext: tickvals.map((value) => short(value)) };
}

function layoutOf(x, y, more = {}) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", dragmode: "zoom",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("quiet") }, margin: { l: 54, r: 14, t: 30, b: 46 },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("quiet"), font: { color: colour("ink"), size: 12 }, align: "left" },
    modebar: { color: colour("quiet"), activecolor: colour("accent"), bgcolor: "rgba(0,0,0,0)" },
    xaxis: x, yaxis: y, ...more,
  };
}

function levels(references) {
  return references.map(({ title, value }) => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: { color: colour("quiet"), width: 1, dash: "dot" },
    label: { text: plain(title), textposition: "end", yanchor: "bottom", padding: 1, font: { size: 11, color: colour("quiet") } },
  }));
}

function titleOf(metric) {
  return [metric.name, metric.unit, `${metric.lower ? "lower" : "higher"} is better`].filter(Boolean).join("\n");
}

function hoverOf(task, index, metric, more = "") {
  const group = task.groups[index], seeds = `${group.seeds} seed${group.seeds === 1 ? "" : "s"}`;
  return [`${group.label}: ${metric.name} ${group.texts[metric.name]}`, more, seeds, metric.note, group.settings].filter(Boolean).join("; ");
}

// hover boxes break after a semicolon, and long parts after some words
function broken(text) {
  return text.split("; ").map((part) => plain(part).replace(/(.{48}[^ ]*) /g, "$1<br>")).join("<br>");
}

// the points of one trace: {x, y, low, high, text, group}
function traceOf(points, method, task, more = {}) {
  const { colour: tint, symbol } = look(task.methods.indexOf(method));
  return {
    type: "scatter", mode: "markers", name: plain(method), x: points.map((p) => p.x), y: points.map((p) => p.y),
    customdata: points.map((p) => p.group), meta: { texts: points.map((p) => p.text) },
    hoverinfo: "text", hovertext: points.map((p) => broken(p.text)), marker: { color: tint, symbol, size: 9 }, line: { color: tint, width: 2 },
    error_y: {
      type: "data", symmetric: false, color: tint, thickness: 1.3, width: 0, array: points.map((p) => (p.high === null ? 0 : p.high - p.y)),
      arrayminus: points.map((p) => (p.low === null ? 0 : p.y - p.low)),
    },
    ...more,
  };
}

// The range that shows all values; of long intervals it shows half the values' spread, and marks where they leave.
function frameOf(points) {
  const values = points.map((p) => p.y), spread = Math.max(...values) - Math.min(...values) || Math.abs(values[0]) || 1;
  const [least, most] = [Math.min(...values) - spread / 2, Math.max(...values) + spread / 2];
  const low = Math.max(least, Math.min(...points.map((p) => p.low ?? p.y))), high = Math.min(most, Math.max(...points.map((p) => p.high ?? p.y)));
  return [low - 0.08 * spread, high + 0.08 * spread];
}

function cutMarks(points, [low, high], task) {
  const cut = [...points.filter((p) => p.high !== null && p.high > high).map((p) => [p, high, "triangle-up"]),
    ...points.filter((p) => p.low !== null && p.low < low).map((p) => [p, low, "triangle-down"])];
  const tint = ([p]) => look(task.methods.indexOf(task.groups[p.group].method)).colour;
  return { type: "scatter", mode: "markers", name: "interval leaves the frame", hoverinfo: "skip", cliponaxis: false, meta: { texts: [] },
    x: cut.map(([p]) => p.x), y: cut.map(([, y]) => y), marker: { symbol: cut.map(([, , s]) => s), size: 7, color: cut.map(tint) } };
}

// the points on the Pareto front, from the best value on the horizontal axis: the least, unless more of it is better
function frontOf(points, lower, less = true) {
  let best = Infinity;
  const sign = lower ? 1 : -1, side = less ? 1 : -1;
  return [...points].sort((a, b) => side * (a.x - b.x) || sign * (a.y - b.y)).filter((p) => sign * p.y < best && ((best = sign * p.y), true));
}

function byMethod(task, points) {
  return task.methods.map((method) => [method, points.filter((p) => task.groups[p.group].method === method)]).filter(([, own]) => own.length);
}

function shownGroups(task, off) {
  return task.groups.map((group, index) => ({ group, index })).filter(({ group }) => !off.has(group.method));
}

function pareto(task, off, { x, y, log }) {
  const metric = task.metrics.find((m) => m.name === y), cut = x.indexOf(":"), [kind, name] = [x.slice(0, cut), x.slice(cut + 1)];
  const cost = task.costs.find((c) => kind === "cost" && c.name === name), other = task.metrics.find((m) => m.name === name);
  const read = (group) => (cost ? group.costs[name] : group.values[name]?.[0]);
  const points = shownGroups(task, off).filter(({ group }) => group.values[y] && read(group) !== undefined).map(({ group, index }) => {
    const [value, low, high] = group.values[y], at = read(group);
    return { x: at, y: value, low, high, group: index, text: hoverOf(task, index, metric, cost ? `${cost.title} ${short(at, cost.unit)}` : `${name} ${group.texts[name]}`) };
  });
  if (!points.length) return null;
  const range = frameOf(points), front = other === metric ? [] : frontOf(points, metric.lower, cost ? true : other.lower);
  const traces = byMethod(task, points).map(([method, own]) => traceOf(own, method, task));
  if (front.length) traces.unshift({ type: "scatter", mode: "lines", name: "Pareto front", hoverinfo: "skip", meta: { texts: [] }, x: front.map((p) => p.x), y: front.map((p) => p.y), line: { shape: "hv", dash: "dash", width: 1, color: colour("quiet") } });
  const xAxis = axis(cost ? `${cost.title}${cost.unit ? ` (${cost.unit})` : ""}` : titleOf(other), { type: log && points.every((p) => p.x > 0) ? "log" : "linear" });
  return { traces: [...traces, cutMarks(points, range, task)], title: `${y} over ${cost ? cost.title : name}`,
    layout: layoutOf(xAxis, axis(titleOf(metric), { range }), { shapes: levels(metric.references.filter((r) => r.value > range[0] && r.value < range[1])) }) };
}

function curve(task, off, { x, y }) {
  const metric = task.metrics.find((m) => m.name === y), shown = shownGroups(task, off).filter(({ group }) => group.values[y]);
  const points = shown.filter(({ group }) => group.field === x).sort((a, b) => a.group.size - b.group.size).map(({ group, index }) => {
    const [value, low, high] = group.values[y];
    return { x: group.size, y: value, low, high, group: index, text: hoverOf(task, index, metric) };
  });
  if (!points.length) return null;
  const lines = [...new Set(points.map((p) => task.groups[p.group].line))], drawn = {};
  const traces = lines.map((name) => {
    const own = points.filter((p) => task.groups[p.group].line === name), method = task.groups[own[0].group].method;
    drawn[method] = (drawn[method] ?? -1) + 1;
    const trace = traceOf(own, method, task, { mode: "lines+markers", name: plain(name) });
    trace.line.dash = DASHES[drawn[method] % DASHES.length];
    return trace;
  });
  const across = shown.filter(({ group }) => group.field === null).map(({ group }) => ({ title: group.label, value: group.values[y][0] }));
  const range = frameOf([...points, ...across.map(({ value }) => ({ y: value, low: null, high: null }))]);
  const sizes = [...new Set(points.map((p) => p.x))].sort((a, b) => a - b);
  const apart = sizes.reduce((kept, size) => (size / kept.at(-1) <= 1.5 ? kept : [...kept, size]), []); // labels that do not touch
  const references = [...metric.references, ...across].filter((r) => r.value > range[0] && r.value < range[1]);
  return { traces: [...traces, cutMarks(points, range, task)], title: `${y} over ${x}`,
    layout: layoutOf(axis(x, { type: "log", tickvals: apart, ticktext: apart.map((s) => short(s)) }), axis(titleOf(metric), { range }), { shapes: levels(references) }) };
}

function bars(task, off, { y, log }) {
  const line = task.bars.lines[Number(y)];
  const rows = task.bars.rows.map((row, i) => [row, line.values[i]]).filter(([row, value]) => value && value[0] !== null && !off.has(row.method));
  if (!rows.length) return null;
  const names = rows.map(([row], i) => `${plain(row.name)}${"\u200b".repeat(rows.slice(0, i).filter(([r]) => r.name === row.name).length)}`); // equal names stay two bars
  const traces = task.methods.map((method) => {
    const own = rows.map(([row, value], i) => ({ row, value, name: names[i] })).filter(({ row }) => row.method === method);
    const text = own.map(({ row, value: [v, low, high] }) => `${row.name}: ${line.title} ${short(v, line.unit)}${low === null ? "" : ` [${short(low, line.unit)}, ${short(high, line.unit)}]`}`);
    const group = own.map(({ row }) => task.groups.findIndex((g) => g.label === row.label));
    return { type: "bar", orientation: "h", name: plain(method), y: own.map(({ name }) => name), x: own.map(({ value }) => value[0]), customdata: group, meta: { texts: text },
      hoverinfo: "text", hovertext: text.map(broken), text: own.map(({ value }) => short(value[0], line.unit)), textposition: "auto", textangle: 0, marker: { color: look(task.methods.indexOf(method)).colour } };
  }).filter((trace) => trace.x.length);
  const positive = rows.every(([, value]) => value[0] > 0);
  return { traces, title: `${line.title} by method`, height: Math.max(260, 90 + 24 * rows.length),
    layout: layoutOf(axis(`${line.title}${line.unit && line.unit !== "ratio" ? ` (${line.unit})` : ""}`, { type: log && positive ? "log" : "linear" }), axis("", { autorange: "reversed", type: "category", categoryorder: "array", categoryarray: names }), { barmode: "overlay" }) };
}

function intrinsic(task, off, { y }) {
  const [place, field] = y.split(":"), record = task.intrinsic[Number(place)];
  const curves = record.curves.filter((c) => c.field === field && !off.has(c.method));
  if (!curves.length) return null;
  const traces = curves.flatMap((c, i) => c.seeds.map((seed) => {
    const points = seed.points.map(([size, value]) => ({ x: size, y: value, low: null, high: null, group: -1, text: `${c.name}, seed ${seed.seed}; ${field} ${size}: ${record.metric} ${short(value)}; crosses at ${c.text}` }));
    const tint = look(i).colour;
    return traceOf(points, c.method, task, { mode: "lines+markers", name: plain(c.name), marker: { color: tint, symbol: look(i).symbol, size: 7 }, line: { color: tint, width: 1 }, error_y: { visible: false } });
  }));
  const crossings = curves.flatMap((c, i) => (c.value === null ? [] : [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: c.value, x1: c.value, line: { color: look(i).colour, width: 2 }, label: { text: plain(`${c.name} ${short(c.value)}`), textposition: "end", textangle: 0, xanchor: "left", padding: 3, font: { size: 11, color: look(i).colour } } }]));
  const range = frameOf([...traces.flatMap((t) => t.y), ...record.levels.map((l) => l.value)].map((y) => ({ y, low: null, high: null })));
  return { traces, title: record.title, layout: layoutOf(axis(field, { type: "log" }), axis(`${record.metric} (${record.better} is better)`, { range }), { shapes: [...levels(record.levels), ...crossings] }) };
}

function spectrum(task, off, { y, log }) {
  const runs = task.spectra.filter((run) => !off.has(task.groups[run.group].method));
  if (!runs.length) return null;
  const byLayer = y !== "median", what = { energy_rank: "directions with 90 % of the energy", intruders: "intruder dimensions" }[y];
  const traces = runs.map((run) => {
    const group = task.groups[run.group], head = `${group.label} seed ${run.seed}`;
    const points = byLayer
      ? run[y].map(([layer, key, value]) => ({ x: layer, y: value, low: null, high: null, group: run.group, text: `${head}; ${key}: ${value} ${what}` }))
      : run.median.map((value, i) => ({ x: i + 1, y: value, low: null, high: null, group: run.group, text: `${head}; direction ${i + 1}: ${short(value)} of the largest` }));
    return traceOf(points, group.method, task, { mode: byLayer ? "markers" : "lines+markers", name: plain(head), error_y: { visible: false } });
  });
  const [xTitle, yTitle] = byLayer ? ["layer, a point per matrix", what] : ["direction of the update", "singular value / largest, median matrix"];
  return { traces, title: `${yTitle} over ${xTitle}`, layout: layoutOf(axis(xTitle, byLayer ? { type: "category" } : {}), axis(yTitle, { type: log && y !== "intruders" ? "log" : "linear" })) };
}
