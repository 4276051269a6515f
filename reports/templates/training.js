// The charts of a training: losses and quality over steps.

// the opacity of a group's lines where colours are methods: the largest size of a method is opaque
function fadeOf(task, group) {
  const sizes = [...new Set(task.groups.filter((g) => g.method === group.method).map((g) => g.size))].sort((a, b) => a - b);
  return sizes.length > 1 ? 0.35 + (0.65 * sizes.indexOf(group.size)) / (sizes.length - 1) : 1;
}

function losses(task, off, { y, log, tint: bySize }) {
  const runs = task.losses.filter((run) => run.curves[y] && !off.has(task.groups[run.group].method));
  if (bySize) runs.sort((a, b) => (task.groups[a.group].size ?? 0) - (task.groups[b.group].size ?? 0));
  if (!runs.length) return null;
  const named = new Set();
  const traces = runs.map((run) => {
    const group = task.groups[run.group];
    const head = `${group.label} seed ${run.seed}${run.failed ? " (failed)" : ""}`, [steps, values] = run.curves[y];
    const points = steps.map((step, i) => ({ x: step, y: values[i], low: null, high: null, group: run.group, text: [head, `step ${step}: ${values[i]}`, group.settings].filter(Boolean).join("; ") }));
    const trace = traceOf(points, group.method, task, { mode: "lines", name: plain(head), error_y: { visible: false } });
    trace.opacity = bySize ? 1 : fadeOf(task, group);
    if (bySize) Object.assign(trace, sizeEntry(group, named));
    trace.line = { color: bySize ? sizeTint(task, group.size) : trace.line.color, width: 1.5, dash: run.failed ? "dot" : "solid" };
    return trace;
  });
  const first = runs.map((run) => run.curves[y][1][0]).sort((p, q) => p - q), [low, high] = shownRange(runs.flatMap((run) => run.curves[y][1]), true);
  const top = Math.max(high, first[first.length >> 1]), margin = 0.05 * (top - low), range = [low - margin, top + margin]; // what diverges goes on outside
  const name = y === "loss" ? "training loss, running mean" : "validation loss";
  return { traces, title: `${name} over steps`, layout: layoutOf(axis("step", log ? { type: "log", ...roundTicks() } : {}), axis(name, { range }), bySize ? SIZE_LEGEND : {}) };
}

// a metric over steps: the mean over seeds with the best step ringed, single seeds thin
function quality(task, off, { y, log, tint: bySize }) {
  const metric = task.metrics.find((m) => m.name === y), curves = (task.quality[y] ?? []).filter((c) => !off.has(task.groups[c.group].method));
  if (bySize) curves.sort((a, b) => (task.groups[a.group].size ?? 0) - (task.groups[b.group].size ?? 0));
  const trained = curves.flatMap((c) => c.values.filter((_, i) => c.steps[i] > 0));
  if (!trained.length) return null;
  const first = curves.map((c) => c.values[c.steps.findIndex((step) => step > 0)]).filter((value) => value !== undefined).sort((p, q) => p - q), begin = first[first.length >> 1];
  const ends = shownRange(trained, metric.lower), [low, high] = [Math.min(...ends, begin), Math.max(...ends, begin)], margin = 0.08 * (high - low), named = new Set();
  const traces = curves.flatMap((c) => {
    const group = task.groups[c.group], fade = bySize ? 1 : fadeOf(task, group);
    const tint = bySize ? sizeTint(task, group.size) : look(task.methods.indexOf(group.method)).colour;
    const shown = c.steps.map((_, i) => i).filter((i) => !log || c.steps[i] > 0);
    const points = shown.map((i) => ({ x: c.steps[i], y: c.values[i], low: null, high: null, group: c.group,
      text: [`${group.label} at step ${c.steps[i]}: ${y} ${c.texts[i]}`, i === c.best ? "the best step" : "", `${c.seeds.length} seed${c.seeds.length === 1 ? "" : "s"}`, c.n, group.settings].filter(Boolean).join("; ") }));
    const mean = traceOf(points, group.method, task, { mode: "lines+markers", name: plain(group.label), opacity: fade, error_y: { visible: false } });
    if (bySize) Object.assign(mean, sizeEntry(group, named));
    Object.assign(mean.line, { color: tint, width: 2 });
    Object.assign(mean.marker, { color: tint, size: shown.map((i) => (i === c.best ? 12 : 6)), line: { width: shown.map((i) => (i === c.best ? 2 : 0)), color: colour("ink") } });
    const single = c.seeds.length > 1 ? c.seeds : c.seeds.filter((seed) => seed.failed);
    return [...single.map((seed) => ({ type: "scatter", mode: "lines", name: plain(group.label), hoverinfo: "skip", showlegend: false, meta: { texts: [] }, opacity: 0.4 * fade,
      x: seed.steps, y: seed.values, line: { color: tint, width: 1, dash: seed.failed ? "dot" : "solid" } })), mean];
  });
  return { traces, title: `${y} over steps`, layout: layoutOf(axis("step", log ? { type: "log", ...roundTicks() } : { rangemode: "tozero" }), axis(titleOf(metric), { range: [low - margin, high + margin] }), bySize ? SIZE_LEGEND : {}) };
}
