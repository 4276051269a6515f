"""The page: one self-contained HTML file with charts, tables and pictures; it loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reports import tables
from reports.costs.fields import COSTS
from reports.page.gallery import gallery_rows
from reports.plots.style import slug
from reports.records import Collection
from reports.references import references
from reports.run_groups import RunGroup, plot_lines, size_text
from reports.tables import Table
from reports.text import notes, variances
from reports.text.format import one_line
from reports.text.table import cost_text, detectable_text, mean_text, seeds_text, size_title, verdict_text

TEMPLATES = Path(__file__).parents[1] / "templates"


def write_page(collection: Collection, out: Path) -> Path:
    """Write OUT/index.html and return its path. The same records give the same bytes."""
    sections = [_section(collection, task) for task in collection.tasks()]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_source(*names) for names in (["page.css"], ["chart.js", "page.js"]))
    html = environment.get_template("page.html").render(
        sections=sections,
        counts=notes.counts(collection),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        data=_json({section["id"]: section["data"] for section in sections}),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(html, encoding="utf-8")
    return out / "index.html"


def _source(*names: str) -> str:
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _policy(style: str, script: str) -> str:
    """Content security policy: allow only this style and script (by hash) and embedded pictures."""
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> Markup:
    """JSON that cannot close the script element around it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _section(collection: Collection, task: str) -> dict[str, Any]:
    table = tables.build(collection, task)
    part = collection.of_task(task)
    return {
        "id": f"task-{slug(task)}",
        "task": task,
        "data": _data(table),
        "columns": _columns(table),
        "rows": [_row(table, index) for index in range(len(table.rows))],
        "notes": [
            *notes.counts(part),
            *notes.measured_with(table.rows, table.metrics),
            *filter(None, (notes.references_text(table.rows, name) for name in table.metrics)),
            *notes.methods_used(table),
            *variances.sources(table.rows, table.primary_metric),
        ],
        "warnings": notes.warnings(table.rows, table.metrics),
        "intrinsic": [*part.intrinsic.values()],
        "gallery": gallery_rows(table.rows),
        "sources": sorted({run.record.source for group in table.rows for run in group.finished} - {"run"}),
    }


def _data(table: Table) -> dict[str, Any]:
    """The data of the charts: numbers unrounded, missing values left out."""
    costs = [name for name in COSTS if any(group.cost(name) for group in table.rows)]
    finished = [group for group in table.rows if group.finished]
    fields = _fields(table.rows)
    sized = ([group for group in finished if group.size and group.size.field == field] for field in fields)
    lines = {
        id(group): one_line(name) for groups in sized for name, line in plot_lines(groups).items() for group in line
    }
    return {
        "metrics": [_metric(table, name) for name in table.metrics],
        "costs": [{"name": name, "title": COSTS[name].title.capitalize(), "unit": COSTS[name].unit} for name in costs],
        "fields": fields,
        "methods": sorted({group.method for group in table.rows}),
        "groups": [_group(table, group, costs) | {"line": lines.get(id(group))} for group in finished],
    }


def _fields(groups: Sequence[RunGroup]) -> list[str]:
    """Size fields, the most frequent first."""
    fields = [group.size.field for group in groups if group.size]
    return sorted(set(fields), key=lambda field: (-fields.count(field), field))


def _metric(table: Table, name: str) -> dict[str, Any]:
    figures = [figure for group in table.rows for figure in group.figures(name)]
    return {
        "name": name,
        "lower": table.lower_is_better[name],
        "unit": notes.unit_text(figures),
        "note": ", ".join(filter(None, [notes.n_text(figures), notes.extractor_text(figures)])),
        "references": [
            {"title": one_line(notes.reference_title(found)), "value": found.value}
            for found in references(table.rows, name)
        ],
    }


def _group(table: Table, group: RunGroup, costs: Sequence[str]) -> dict[str, Any]:
    means = {name: mean for name in table.metrics if (mean := group.mean(name))}
    return {
        "method": group.method,
        "field": group.size.field if group.size else None,
        "size": group.size.value if group.size else None,
        "label": one_line(group.label),
        "settings": one_line(group.settings_text),
        "seeds": len(group.finished),
        "values": {name: [mean.value, mean.low, mean.high] for name, mean in means.items()},
        "texts": {name: mean_text(mean) for name, mean in means.items()},
        "costs": {name: cost for name in costs if (cost := group.cost(name))},
    }


def _columns(table: Table) -> list[dict[str, Any]]:
    columns = [{"title": "method", "number": False}, {"title": size_title(table.rows), "number": True}]
    columns += [{"title": "settings", "number": False}] if any(group.settings for group in table.rows) else []
    columns += [{"title": "seeds", "number": True}]
    for name in table.metrics:
        columns.append({"title": f"{name} {'↓' if table.lower_is_better[name] else '↑'}", "number": True})
        columns.append({"title": f"{name} against {table.reference.label if table.reference else ''}", "number": False})
        if name == table.primary_metric:
            columns.append({"title": "detectable difference", "number": True})
    return columns + [{"title": cost.title, "number": True} for cost in COSTS.values()]


def _row(table: Table, index: int) -> list[dict[str, Any]]:
    """Cells as text, with a number for columns that sort by it."""
    group = table.rows[index]
    cells = [_cell(group.method), _cell(size_text(group.size), group.size.value if group.size else None)]
    cells += [_cell(group.settings_text)] if any(other.settings for other in table.rows) else []
    cells += [_cell(seeds_text(group), len(group.finished))]
    for name in table.metrics:
        mean = group.mean(name)
        cells += [_cell(mean_text(mean), mean.value if mean else None), _cell(verdict_text(table, index, name))]
        if name == table.primary_metric:
            verdict = table.verdicts.get((name, index))
            cells += [_cell(detectable_text(table, index, name), verdict.detectable if verdict else None)]
    return cells + [_cell(cost_text(name, group.cost(name)), group.cost(name)) for name in COSTS]


def _cell(text: str, number: float | None = None) -> dict[str, Any]:
    return {"text": one_line(text), "number": number}
