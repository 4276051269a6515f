// Interaction: choose a task and the axes, switch methods off, open a run's pictures and texts, sort, filter.

const data = JSON.parse(document.getElementById("data").textContent);

function options(select, entries) {
  for (const [value, text] of entries) select.add(new Option(text, value));
}

const axesOf = (task) => task.sweep.axes.map(({ name }) => [name, name]);
// those over which some line has two points: a searched rate may have one value for each rank
const lineAxesOf = (task) => axesOf(task).filter(([name]) => task.sweep.lines[name].some((line) => line.groups.length > 1));
const metricsOf = (task) => task.metrics.map((m) => [m.name, m.name]);
// by the class of their card: how they are drawn, and the entries of their controls
const KINDS = {
  pareto: [pareto, (task) => ({ x: [...task.costs.map((c) => [`cost:${c.name}`, c.title]), ...task.metrics.map((m) => [`metric:${m.name}`, m.name])], y: metricsOf(task) })],
  curve: [curve, (task) => ({ x: task.fields.map((f) => [f, f]), y: metricsOf(task) })],
  heat: [heat, (task) => (task.sweep.axes.length > 1 ? { x: axesOf(task), y: axesOf(task).map((_, i, all) => all[(i + 1) % all.length]), metric: metricsOf(task) } : { x: [] })],
  ucurve: [ucurve, (task) => ({ x: lineAxesOf(task), y: metricsOf(task) })],
  effects: [effects, (task) => ({ y: metricsOf(task).filter(([name]) => task.sweep.effects[name]) })],
  losses: [losses, (task) => ({ y: [["loss", "training loss"], ["validation_loss", "validation loss"]].filter(([kind]) => task.losses.some((run) => run.curves[kind])) })],
  quality: [quality, (task) => ({ y: metricsOf(task).filter(([name]) => task.quality[name]) })],
  bars: [bars, (task) => ({ y: task.bars.lines.map((line, i) => [String(i), line.title]) })],
  intrinsics: [intrinsic, (task) => ({ y: task.intrinsic.flatMap((record, i) => [...new Set(record.curves.map((c) => c.field))].map((field) => [`${i}:${field}`, `${field}: ${record.title}`])) })],
  spectrum: [spectrum, (task) => ({ y: task.spectra.length ? [["median", "singular values"], ["energy_rank", "rank for 90 % of the energy, by layer"], ...(task.spectra.some((run) => run.intruders.length) ? [["intruders", "intruder dimensions, by layer"]] : [])] : [] })],
};

// a function that draws the card's chart; null if the task has no data for it
function wireChart(card, task, off, open) {
  const [figureOf, entriesOf] = KINDS[[...card.classList].find((name) => KINDS[name])], entries = entriesOf(task);
  if (Object.values(entries).some((list) => !list.length)) { card.remove(); return null; }
  const controls = {};
  for (const [name, list] of Object.entries(entries)) options((controls[name] = card.querySelector(`.${name}`)), list);
  const log = card.querySelector(".log"), tint = card.querySelector(".tint"), node = card.querySelector(".chart"), detail = card.querySelector(".detail");
  const draw = () => {
    const chosen = { log: log?.checked, tint: tint?.checked, ...Object.fromEntries(Object.entries(controls).map(([name, select]) => [name, select.value])) };
    const figure = figureOf(task, off, chosen), height = figure?.height ?? Math.round(Math.max(280, Math.min(440, node.clientWidth * 0.66)));
    const empty = layoutOf({ visible: false }, { visible: false }, { annotations: [{ text: "no run has both values", showarrow: false }] });
    node.setAttribute("aria-label", figure ? figure.title : "empty chart");
    detail.textContent = "";
    node.style.height = `${height}px`; // Plotly drops the layout's height when the window's size changes
    Plotly.react(node, figure ? figure.traces : [], figure ? figure.layout : empty, CONFIG);
  };
  draw();
  node.on("plotly_click", ({ points: [point] }) => open(point.customdata, point.data.meta.texts[point.pointIndex]));
  node.on("plotly_hover", ({ points: [point] }) => { detail.textContent = point.data.meta.texts[point.pointIndex] ?? ""; });
  walk(node, detail, open);
  for (const control of [...Object.values(controls), log, tint].filter(Boolean)) control.addEventListener("change", draw);
  return draw;
}

// The chart is one tab stop; the arrow keys move between its points, Enter opens.
function walk(node, detail, open) {
  let at = -1;
  const order = () => node.data.flatMap((trace, curveNumber) => trace.meta.texts.map((text, pointNumber) => ({ curveNumber, pointNumber, text, x: trace.x[pointNumber], group: trace.customdata[pointNumber] })))
    .sort((a, b) => (typeof a.x === "number" ? a.x - b.x : 0) || a.curveNumber - b.curveNumber);
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], points = order();
    if (!points.length || (event.key === "Enter" && at < 0)) return;
    if (event.key === "Enter") { event.preventDefault(); open(points[at % points.length].group, points[at % points.length].text); return; }
    if (!step) return;
    event.preventDefault();
    at = at < 0 && step < 0 ? points.length - 1 : (at + step + points.length) % points.length;
    const { curveNumber, pointNumber, text } = points[at];
    try { Plotly.Fx.hover(node, [{ curveNumber, pointNumber }]); } catch { /* a point outside of the zoomed frame has no box */ }
    detail.textContent = text;
  });
}

// one button per method, for all charts of the task; a double click leaves that method alone
function wireLegend(list, task, off, drawAll) {
  const buttons = task.methods.map((method, i) => {
    const item = document.createElement("li"), button = document.createElement("button"), sign = document.createElement("span");
    const { kind, sign: text } = look(i);
    sign.className = `k${kind}`;
    sign.textContent = `${text} `;
    button.type = "button";
    button.append(sign, method);
    item.append(button);
    list.append(item);
    return button;
  });
  const show = () => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(!off.has(task.methods[i]))));
    drawAll();
  };
  buttons.forEach((button, i) => {
    const method = task.methods[i];
    button.addEventListener("click", () => { if (!off.delete(method)) off.add(method); show(); });
    button.addEventListener("dblclick", () => {
      const alone = task.methods.every((m) => m === method || off.has(m));
      off.clear();
      if (!alone) task.methods.filter((m) => m !== method).forEach((m) => off.add(m));
      show();
    });
    button.setAttribute("aria-pressed", "true");
  });
}

// the pictures and texts of a group, copied from the gallery
function opener(section) {
  const dialog = document.getElementById("run");
  return (group, text) => {
    if (group === undefined || group < 0) return;
    const body = dialog.querySelector(".shown-run");
    dialog.querySelector("p").textContent = text ?? "";
    body.replaceChildren();
    for (const entry of section.querySelectorAll(`[data-group="${group}"]`)) {
      const caption = document.createElement("h4");
      caption.textContent = entry.closest("[data-caption]").dataset.caption;
      body.append(caption, entry.cloneNode(true));
    }
    if (!body.children.length) body.textContent = "The record holds no pictures and no texts of this run.";
    for (const button of body.querySelectorAll("button")) button.replaceWith(...button.childNodes);
    dialog.showModal();
  };
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
  const card = section.querySelector(".figures"), table = card.querySelector("table"), rows = [...table.tBodies[0].rows];
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = cell.querySelector("button");
    button.disabled = false;
    button.addEventListener("click", () => sortBy(table, column));
  });
  const filter = card.querySelector(".filter"), shown = card.querySelector(".shown");
  const apply = () => { shown.textContent = `${filterBy(filter.value, rows, (row) => row.textContent.replace(/\s+/g, " "))} of ${rows.length} rows`; };
  filter.addEventListener("input", apply);
  apply();
}

function wireGallery(gallery) {
  const figures = [...gallery.querySelectorAll("figure")], dialog = document.getElementById("picture");
  gallery.querySelector(".filter").addEventListener("input", (event) => filterBy(event.target.value, figures, (figure) => figure.dataset.label));
  for (const figure of figures) {
    const button = figure.querySelector("button"), picture = figure.querySelector("img");
    if (!button) continue; // a text
    button.disabled = false;
    button.addEventListener("click", () => {
      dialog.querySelector("img").src = picture.src;
      dialog.querySelector("img").alt = picture.alt;
      dialog.querySelector("p").textContent = picture.alt;
      dialog.showModal();
    });
  }
}

const charts = {}; // by task, the functions that draw its charts; a hidden section has no width to draw for

function wireCharts(id) {
  const section = document.getElementById(id), task = data[id], off = new Set(), open = opener(section);
  charts[id] = [...section.querySelectorAll("article.chart-card")].map((card) => wireChart(card, task, off, open)).filter(Boolean);
  if (charts[id].length) wireLegend(section.querySelector(".legend"), task, off, () => charts[id].forEach((draw) => draw()));
}

function showTask(id) {
  for (const section of document.querySelectorAll("section.task")) section.hidden = section.id !== id;
  if (charts[id]) charts[id].forEach((draw) => draw()); else wireCharts(id);
}

for (const node of document.querySelectorAll(".needs-script")) node.hidden = false;
for (const section of document.querySelectorAll("section.task")) {
  wireTable(section);
  section.querySelectorAll(".gallery").forEach(wireGallery);
}
const chooser = document.getElementById("task");
const requested = decodeURIComponent(location.hash.slice(1));
if (data[requested]) chooser.value = requested;
chooser.addEventListener("change", () => { history.replaceState(null, "", `#${chooser.value}`); showTask(chooser.value); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chooser.value && showTask(chooser.value));
if (chooser.value) showTask(chooser.value);
