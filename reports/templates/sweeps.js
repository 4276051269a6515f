// The charts of a sweep: a metric over two settings, over one setting, and the main effects of settings.

const SIZE_LEGEND = { showlegend: true, legend: { orientation: "h", x: 0, y: -0.24, yanchor: "top", font: { size: 11 }, itemclick: false, itemdoubleclick: false } };
const FROM_SMALL = { light: ["#8fbc1f", "#2a9d76", "#26828e", "#3e4a89", "#440154"], dark: ["#6f7fe0", "#35a7b5", "#4fd08f", "#b8e34a", "#fde725"] };
const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6dcd59", "#b4de2c", "#fde725"];

function sizesOf(task) {
  return [...new Set(task.groups.map((group) => group.size).filter((size) => size !== null))].sort((a, b) => a - b);
}

// from the smallest size to the largest; methods without a size have the colour of the text
function sizeTint(task, size) {
  if (size === null) return colour("ink");
  const stops = FROM_SMALL[matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"], sizes = sizesOf(task);
  return stops[sizes.length > 1 ? Math.round((sizes.indexOf(size) / (sizes.length - 1)) * (stops.length - 1)) : 2];
}

// one legend entry per size, at its first trace
function sizeEntry({ method, size, field }, named) {
  const name = size === null ? method : `${field} ${short(size)}`, first = !named.has(name);
  named.add(name);
  return { name: plain(name), showlegend: first, legendgroup: name };
}

function cellText(task, index, name, where) {
  const group = task.groups[index], failed = task.sweep.failed[index];
  const figure = group.values[name] ? `${name} ${group.texts[name]}` : "failed or diverged";
  const worse = task.sweep.worse[index].includes(name) ? "worse than the untuned base" : "";
  return [`${group.label}: ${figure}`, where, failed ? `${failed} failed` : "", worse, group.settings].filter(Boolean).join("; ");
}

// as shown_range of reports/sweeps/grid.py
function shownRange(values, lower) {
  const sorted = [...values].sort((a, b) => (lower ? a - b : b - a)), best = sorted[0], worst = sorted.at(-1);
  const limit = best + 4 * (sorted[Math.floor(sorted.length / 2)] - best);
  let end = Math.abs(worst - best) <= 2 * Math.abs(limit - best) ? worst : limit;
  if (end === best) end = best + (Math.abs(best) * 0.05 || 1) * (lower ? 1 : -1);
  return [Math.min(best, end), Math.max(best, end)];
}

const valuesOf = (task, facets, name) => facets.flatMap((facet) => facet.groups).map((index) => task.groups[index].values[name]?.[0]).filter((value) => value !== undefined);

function bestOf(task, indices, metric) {
  const measured = indices.filter((index) => task.groups[index].values[metric.name]);
  const sign = metric.lower ? 1 : -1, value = (index) => sign * task.groups[index].values[metric.name][0];
  return measured.length ? measured.reduce((best, index) => (value(index) < value(best) ? index : best)) : null;
}

// one heat map per method and other settings, below each other; the best cell is framed, failed cells are grey
function heat(task, off, { x, y, metric: name }) {
  const sweep = task.sweep, metric = task.metrics.find((m) => m.name === name);
  const shown = (sweep.grids[`${x}|${y}`] ?? []).filter((facet) => !off.has(facet.method)).slice(0, 6);
  const measured = valuesOf(task, shown, name);
  if (!measured.length) return null;
  const [low, high] = shownRange(measured, metric.lower), values = (axisName) => sweep.axes.find((a) => a.name === axisName).values;
  const used = (axisName, facet) => values(axisName).filter((value) => facet.groups.some((index) => sweep.places[index][axisName] === value));
  const rows = shown.map((facet) => used(y, facet)), heights = rows.map((own) => 34 * own.length), gap = 74;
  const total = heights.reduce((sum, height) => sum + height, 0) + gap * (shown.length - 1);
  const traces = [], layout = { shapes: [], annotations: [] };
  let top = total;
  shown.forEach((facet, i) => {
    const axes = i ? { xaxis: `x${i + 1}`, yaxis: `y${i + 1}` } : { xaxis: "x", yaxis: "y" }, columns = used(x, facet), best = bestOf(task, facet.groups, metric);
    const at = (column, row) => facet.groups.find((index) => sweep.places[index][x] === column && sweep.places[index][y] === row);
    const share = (value) => { const part = Math.min(1, Math.max(0, (value - low) / (high - low || 1))); return metric.lower ? 1 - part : part; };
    const cells = rows[i].flatMap((row) => columns.map((column) => ({ row, column, index: at(column, row) }))).filter(({ index }) => index !== undefined);
    const valueOf = (index) => task.groups[index].values[name]?.[0];
    traces.push({ type: "heatmap", ...axes, x: columns, y: rows[i], hoverinfo: "skip", showscale: false, meta: { texts: [] }, xgap: 2, ygap: 2, zmin: 0, zmax: 1,
      colorscale: VIRIDIS.map((tint, k) => [k / (VIRIDIS.length - 1), tint]),
      z: rows[i].map((row) => columns.map((column) => { const index = at(column, row); return index === undefined || valueOf(index) === undefined ? null : share(valueOf(index)); })) });
    traces.push({ type: "heatmap", ...axes, x: columns, y: rows[i], hoverinfo: "skip", showscale: false, meta: { texts: [] }, xgap: 2, ygap: 2, zmin: 0, zmax: 1, opacity: 0.35, colorscale: [[0, colour("grey")], [1, colour("grey")]],
      z: rows[i].map((row) => columns.map((column) => { const index = at(column, row); return index !== undefined && valueOf(index) === undefined ? 0 : null; })) });
    traces.push({ type: "scatter", mode: "markers+text", ...axes, x: cells.map((c) => c.column), y: cells.map((c) => c.row), customdata: cells.map((c) => c.index), name: plain(facet.title),
      text: cells.map(({ index }) => (valueOf(index) === undefined ? "failed" : `${+valueOf(index).toPrecision(3)}${sweep.worse[index].includes(name) ? " !" : ""}`)),
      textfont: { size: 11, color: cells.map(({ index }) => (valueOf(index) === undefined ? colour("ink") : share(valueOf(index)) > 0.6 ? "#1d2127" : "#fff")) },
      marker: { symbol: "square", size: 26, opacity: 0 }, hoverinfo: "text", cliponaxis: false,
      meta: { texts: cells.map(({ index, column, row }) => cellText(task, index, name, `${x} ${column}, ${y} ${row}`)) }, hovertext: cells.map(({ index, column, row }) => broken(cellText(task, index, name, `${x} ${column}, ${y} ${row}`))) });
    const domain = [(top - heights[i]) / total, top / total], place = best === null ? null : [columns.indexOf(sweep.places[best][x]), rows[i].indexOf(sweep.places[best][y])];
    if (place) layout.shapes.push({ type: "rect", xref: axes.xaxis, yref: axes.yaxis, x0: place[0] - 0.5, x1: place[0] + 0.5, y0: place[1] - 0.5, y1: place[1] + 0.5, line: { color: colour("c1"), width: 3 } });
    layout.annotations.push({ text: plain(facet.title), xref: "paper", yref: "paper", x: 0, y: domain[1], yanchor: "bottom", yshift: 3, showarrow: false, font: { size: 12, color: colour("ink") } });
    layout[`xaxis${i ? i + 1 : ""}`] = axis(i === shown.length - 1 ? x : "", { type: "category", categoryorder: "array", categoryarray: columns, anchor: axes.yaxis, showgrid: false });
    layout[`yaxis${i ? i + 1 : ""}`] = axis(y, { type: "category", categoryorder: "array", categoryarray: rows[i], anchor: axes.xaxis, domain, showgrid: false });
    top -= heights[i] + gap;
  });
  const { xaxis, yaxis, ...more } = layout;
  return { traces, title: `${metric.name} over ${x} and ${y}`, height: total + 110, layout: layoutOf(xaxis, yaxis, { ...more, margin: { l: 54, r: 14, t: 40, b: 50 } }) };
}

// the metric over one setting; a line per method, size and other settings, coloured by size
function ucurve(task, off, { x, y }) {
  const sweep = task.sweep, metric = task.metrics.find((m) => m.name === y), numeric = sweep.numbers.includes(x);
  const lines = sweep.lines[x].filter((line) => !off.has(line.method) && line.groups.length > 1), named = new Set(), drawn = {};
  const at = (index) => (numeric ? Number(sweep.places[index][x]) : sweep.places[index][x]);
  const order = sweep.axes.find((a) => a.name === x).values, values = order.map(Number);
  const known = valuesOf(task, lines, y), range = known.length ? shownRange(known, metric.lower) : [0, 1], margin = 0.12 * (range[1] - range[0]);
  const many = new Set(lines.map((line) => line.method)).size > 1, sized = lines.some((line) => line.size !== null);
  const pointsOf = (line) => [...line.groups].sort((a, b) => order.indexOf(sweep.places[a][x]) - order.indexOf(sweep.places[b][x])).map((index) => ({ index, x: at(index), value: task.groups[index].values[y] }));
  const marks = [];
  const traces = lines.map((line) => {
    const points = pointsOf(line), own = points.filter((p) => p.value), best = bestOf(task, line.groups, metric), entry = { method: line.method, size: line.size, field: task.groups[line.groups[0]].field };
    const tint = sized ? sizeTint(task, line.size) : look(task.methods.indexOf(line.method)).colour;
    points.filter((p) => !p.value).forEach((p) => marks.push({ ...p, tint, symbol: "x", y: metric.lower ? range[1] + margin : range[0] - margin }));
    own.filter((p) => p.value[0] > range[1] + margin || p.value[0] < range[0] - margin).forEach((p) => marks.push({ ...p, tint, symbol: p.value[0] > range[1] ? "triangle-up" : "triangle-down", y: p.value[0] > range[1] ? range[1] + margin : range[0] - margin }));
    const trace = traceOf(own.map((p) => ({ x: p.x, y: p.value[0], low: p.value[1], high: p.value[2], group: p.index, text: hoverOf(task, p.index, metric, `${x} ${sweep.places[p.index][x]}`) })), line.method, task, { mode: "lines+markers" });
    const key = `${line.size}`;
    drawn[key] = (drawn[key] ?? -1) + 1;
    Object.assign(trace, sized ? sizeEntry(entry, named) : { name: plain(line.title) });
    Object.assign(trace.line, { color: tint, dash: many || drawn[key] ? DASHES[(many ? task.methods.indexOf(line.method) : drawn[key]) % DASHES.length] : "solid" });
    Object.assign(trace.marker, { color: tint, size: own.map((p) => (p.index === best ? 13 : 8)), line: { width: own.map((p) => (p.index === best ? 2 : 0)), color: colour("ink") } });
    trace.error_y.color = tint;
    return trace;
  }).filter((trace) => trace.x.length);
  if (!traces.length) return null;
  const outside = { type: "scatter", mode: "markers", name: "outside of the frame or failed", showlegend: false, cliponaxis: false, hoverinfo: "text", x: marks.map((p) => p.x), y: marks.map((p) => p.y), customdata: marks.map((p) => p.index),
    hovertext: marks.map((p) => broken(cellText(task, p.index, y, ""))), meta: { texts: marks.map((p) => cellText(task, p.index, y, `${x} ${sweep.places[p.index][x]}`)) }, marker: { symbol: marks.map((p) => p.symbol), color: marks.map((p) => p.tint), size: 9 } };
  const log = numeric && Math.min(...values) > 0 && Math.max(...values) >= 10 * Math.min(...values);
  const horizontal = numeric ? { type: log ? "log" : "linear", tickvals: values, ticktext: order } : { type: "category", categoryorder: "array", categoryarray: order };
  return { traces: [...traces, outside], title: `${y} over ${x}`, height: 400, layout: layoutOf(axis(x, horizontal), axis(titleOf(metric), { range: [range[0] - margin, range[1] + margin] }), sized ? SIZE_LEGEND : {}) };
}

// each setting's share of the variance in an additive linear model per method
function effects(task, off, { y }) {
  const shown = (task.sweep.effects[y] ?? []).filter((effect) => !off.has(effect.method));
  if (!shown.length) return null;
  const names = shown.map((effect) => `${effect.method}: ${effect.setting}`), texts = shown.map((effect) => [`${effect.method}, ${effect.setting}: ${(100 * effect.share).toPrecision(2)} % of the variance of ${y}, p ${effect.p === null ? "unknown" : effect.p < 0.001 ? "< 0.001" : effect.p.toPrecision(2)}`, `mean ${y} at ${effect.levels.join(", ")}`, effect.note].join("; "));
  const trace = { type: "bar", orientation: "h", x: shown.map((effect) => 100 * effect.share), y: names.map(plain), name: "share of variance", customdata: shown.map(() => -1), meta: { texts }, hoverinfo: "text", hovertext: texts.map(broken),
    text: shown.map((effect) => `${effect.share < 0.01 ? "< 1" : Math.round(100 * effect.share)} %`), textposition: "auto", textangle: 0, marker: { color: shown.map((effect) => look(task.methods.indexOf(effect.method)).colour) } };
  return { traces: [trace], title: `share of the variance of ${y} by setting`, height: Math.max(220, 100 + 34 * shown.length),
    layout: layoutOf(axis("share of variance (%)", { range: [0, 100] }), axis("", { autorange: "reversed", type: "category" })) };
}
