// Interaction: choose a task and the axes, sort, filter, enlarge pictures.

const COLOURS = 7; // with more methods all marks are grey, except those on the Pareto front
const data = JSON.parse(document.getElementById("data").textContent);

function options(select, entries) {
  for (const [value, text] of entries) select.add(new Option(text, value));
}

function kinds(methods) {
  return Object.fromEntries(methods.map((name, i) => [name, { kind: methods.length > COLOURS ? 7 : i, shape: i }]));
}

// indices of the points on the Pareto front, in order of cost
function frontOf(points, lower) {
  let best = Infinity;
  const sign = lower ? 1 : -1;
  return points.map((p, i) => [p, i]).sort(([a], [b]) => a.x - b.x || sign * (a.y - b.y))
    .filter(([p]) => sign * p.y < best && ((best = sign * p.y), true)).map(([, i]) => i);
}

function detailOf(group, metric, more = "") {
  const seeds = `${group.seeds} seed${group.seeds === 1 ? "" : "s"}`;
  const parts = [`${group.label}: ${metric.name} ${group.texts[metric.name]}`, more, seeds, metric.note, group.settings];
  return parts.filter(Boolean).join("; ");
}

function pointOf(group, metric, x, look, more) {
  const [y, low, high] = group.values[metric.name];
  return { x, y, low, high, ...look[group.method], label: group.label, detail: detailOf(group, metric, more) };
}

function titleOf(metric) {
  return `${metric.name}${metric.unit ? ` (${metric.unit})` : ""}, ${metric.lower ? "lower" : "higher"} is better`;
}

function wirePareto(card, task, look) {
  const [x, y, log] = [".x", ".y", ".log"].map((name) => card.querySelector(name));
  const metricAxes = task.metrics.map((m) => [`metric:${m.name}`, m.name]);
  options(x, [...task.costs.map((c) => [`cost:${c.name}`, c.title]), ...metricAxes]);
  options(y, task.metrics.map((m) => [m.name, m.name]));
  const draw = () => {
    const metric = task.metrics.find((m) => m.name === y.value), cut = x.value.indexOf(":");
    const [kind, name] = [x.value.slice(0, cut), x.value.slice(cut + 1)];
    const cost = task.costs.find((c) => kind === "cost" && c.name === name);
    const read = (group) => (cost ? group.costs[name] : group.values[name]?.[0]);
    const groups = task.groups.filter((group) => group.values[metric.name] && read(group) !== undefined);
    const points = groups.map((group) => pointOf(group, metric, read(group), look, cost ? `${cost.title} ${short(read(group), cost.unit)}` : ""));
    const front = cost ? frontOf(points, metric.lower) : [];
    points.forEach((p, i) => { p.named = front.includes(i); p.faint = p.kind === 7 && !p.named; if (p.kind === 7 && p.named) p.kind = 0; });
    const title = cost ? cost.title : titleOf(task.metrics.find((m) => m.name === name));
    chart(card.querySelector(".chart"), {
      points, front: front.map((i) => [points[i].x, points[i].y]), references: metric.references, xTitle: title, xUnit: cost ? cost.unit : "",
      yTitle: titleOf(metric), log: log.checked, below: metric.lower, title: `${metric.name} over ${title}`, onDetail: detailTo(card),
    });
  };
  [x, y, log].forEach((control) => control.addEventListener("change", draw));
  return draw;
}

function wireCurve(card, task, look) {
  const [x, y] = [".x", ".y"].map((name) => card.querySelector(name));
  if (!task.fields.length) { card.hidden = true; return () => {}; }
  options(x, task.fields.map((f) => [f, f]));
  options(y, task.metrics.map((m) => [m.name, m.name]));
  const draw = () => {
    const metric = task.metrics.find((m) => m.name === y.value);
    const groups = task.groups.filter((group) => group.values[metric.name]);
    const sized = groups.filter((group) => group.field === x.value);
    const across = groups.filter((group) => group.field === null && task.methods.length <= COLOURS)
      .map((group) => ({ title: group.label, value: group.values[metric.name][0], within: true }));
    chart(card.querySelector(".chart"), {
      points: sized.map((group) => pointOf(group, metric, group.size, look, "")), lines: linesOf(sized, metric, look),
      references: [...metric.references, ...across], xTitle: x.value, yTitle: titleOf(metric), log: true, exact: true,
      title: `${metric.name} over ${x.value}`, onDetail: detailTo(card),
    });
  };
  [x, y].forEach((control) => control.addEventListener("change", draw));
  return draw;
}

// join the groups of a line in order of size
function linesOf(groups, metric, look) {
  const lines = new Map();
  for (const group of [...groups].sort((a, b) => a.size - b.size)) {
    if (!lines.has(group.line)) lines.set(group.line, { kind: look[group.method].kind, at: [] });
    lines.get(group.line).at.push([group.size, group.values[metric.name][0]]);
  }
  return [...lines.values()];
}

function detailTo(card) {
  const detail = card.querySelector(".detail");
  detail.textContent = "Hover over a mark, or focus the chart with Tab and use the arrow keys.";
  return (text) => { detail.textContent = text; };
}

function wireLegend(list, task, look) {
  if (task.methods.length > COLOURS) {
    list.replaceChildren(Object.assign(document.createElement("li"), { textContent: "Blue: on the Pareto front (no other group is both better and cheaper). Grey: all others." }));
    return;
  }
  for (const method of task.methods) {
    const item = document.createElement("li"), svg = element("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" });
    const marker = element("g", { class: `point k${look[method].kind}` });
    marker.append(mark(look[method].shape, 7, 7));
    svg.append(marker);
    item.append(svg, method);
    list.append(item);
  }
}

function keyOf(row, column, number) {
  const cell = row.cells[column];
  if (!number) return cell.textContent.trim();
  return cell.dataset.number === undefined ? null : Number(cell.dataset.number);
}

function sortBy(table, column) {
  const header = table.tHead.rows[0].cells[column], number = header.classList.contains("number");
  const down = header.getAttribute("aria-sort") === "ascending";
  const order = (a, b) => {
    const [p, q] = [keyOf(a, column, number), keyOf(b, column, number)];
    if (p === null || q === null) return (p === null) - (q === null); // missing values stay last
    const sign = number ? p - q : p.localeCompare(q, "en");
    return down ? -sign : sign;
  };
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
}

// show the nodes whose text contains every word
function filterBy(text, nodes, read) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const node of nodes) node.hidden = !words.every((word) => read(node).toLowerCase().includes(word));
  return nodes.filter((node) => !node.hidden).length;
}

function wireTable(section) {
  const table = section.querySelector("table"), rows = [...table.tBodies[0].rows];
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = cell.querySelector("button");
    button.disabled = false;
    button.addEventListener("click", () => sortBy(table, column));
  });
  const filter = section.querySelector(".filter"), shown = section.querySelector(".shown");
  const apply = () => { shown.textContent = `${filterBy(filter.value, rows, (row) => row.textContent.replace(/\s+/g, " "))} of ${rows.length} rows`; };
  filter.addEventListener("input", apply);
  apply();
}

function wireGallery(gallery) {
  if (!gallery) return;
  const figures = [...gallery.querySelectorAll("figure")], dialog = document.getElementById("picture");
  gallery.querySelector(".filter").addEventListener("input", (event) => filterBy(event.target.value, figures, (figure) => figure.dataset.label));
  for (const figure of figures) {
    const button = figure.querySelector("button"), picture = figure.querySelector("img");
    button.disabled = false;
    button.addEventListener("click", () => {
      dialog.querySelector("img").src = picture.src;
      dialog.querySelector("img").alt = picture.alt;
      dialog.querySelector("p").textContent = picture.alt;
      dialog.showModal();
    });
  }
}

const charts = {}; // by task, the functions that draw its charts

function showTask(id) {
  for (const section of document.querySelectorAll("section.task")) section.hidden = section.id !== id;
  for (const draw of charts[id]) draw(); // a hidden section has no width to draw for
}

for (const node of document.querySelectorAll(".needs-script")) node.hidden = false;
for (const [id, task] of Object.entries(data)) {
  const section = document.getElementById(id), look = kinds(task.methods);
  charts[id] = [];
  if (task.metrics.length) {
    charts[id].push(wirePareto(section.querySelector(".pareto"), task, look), wireCurve(section.querySelector(".curve"), task, look));
    wireLegend(section.querySelector(".legend"), task, look);
  } else section.querySelector(".charts").remove();
  wireTable(section);
  wireGallery(section.querySelector(".gallery"));
}
const chooser = document.getElementById("task");
const requested = decodeURIComponent(location.hash.slice(1));
if (data[requested]) chooser.value = requested;
chooser.addEventListener("change", () => { history.replaceState(null, "", `#${chooser.value}`); showTask(chooser.value); });
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (width !== window.innerWidth && chooser.value) showTask(chooser.value);
  width = window.innerWidth;
});
if (chooser.value) showTask(chooser.value);
