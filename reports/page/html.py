"""The page: one self-contained HTML file with charts, tables and pictures; it loads nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from reports import tables
from reports.costs.fields import COSTS
from reports.errors import ReportError
from reports.page.chart_data import chart_data
from reports.page.gallery import gallery_rows, text_rows
from reports.page.library import STYLE_ID, TEMPLATES, plotly_script, policy, skipped_styles, source
from reports.plots.style import slug
from reports.records import Collection
from reports.run_groups import size_text
from reports.tables import Table
from reports.text import notes, variances
from reports.text.enough import rank_sentences
from reports.text.format import one_line
from reports.text.table import (
    as_csv,
    cost_text,
    detectable_text,
    mean_text,
    render,
    seeds_text,
    size_title,
    verdict_text,
)


def write_page(collection: Collection, out: Path, chosen: Sequence[str] = ()) -> Path:
    """Write OUT/index.html and return its path. The same records give the same bytes.

    The page holds the `chosen` tasks, by default all. Raises ReportError if one of them has no runs, or if no run has a
    record that can be read.
    """
    sections = [_section(collection, task) for task in collection.chosen_tasks(chosen)]
    if not sections:
        raise ReportError(f"nothing to show from '{collection.folder}': {' '.join(notes.counts(collection)[:2])}")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, scripts = source("page.css"), [plotly_script(), source("charts.js", "training.js", "sweeps.js", "page.js")]
    html = environment.get_template("page.html").render(
        sections=sections,
        counts=notes.counts(collection),
        style=Markup(style),
        style_id=STYLE_ID,
        skipped_styles=skipped_styles(),
        scripts=[Markup(script) for script in scripts],
        policy=policy(style, *scripts),
        data=_json({section["id"]: section["data"] for section in sections}),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(html, encoding="utf-8")
    return out / "index.html"


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
        "data": chart_data(table, part),
        "columns": _columns(table),
        "rows": [_row(table, index) for index in range(len(table.rows))],
        "downloads": _downloads(table, part),
        "answers": rank_sentences(table),
        "notes": [
            *notes.counts(part),
            *notes.measured_with(table.rows, table.metrics),
            *filter(None, (notes.references_text(table.rows, name) for name in table.metrics)),
            *notes.methods_used(table),
            *variances.sources(table.rows, table.primary_metric),
        ],
        "warnings": notes.warnings(table.rows, table.metrics),
        "intrinsic": [*part.intrinsic.values()],
        "pictures": gallery_rows(table.rows),
        "texts": text_rows(table.rows),
        "sources": sorted({run.record.source for group in table.rows for run in group.finished} - {"run"}),
    }


def _downloads(table: Table, part: Collection) -> list[dict[str, str]]:
    """The table as files: name, kind, text, and the address that holds the text."""
    files = {"csv": ("CSV", as_csv(table)), "tex": ("LaTeX", render(table, part, "latex"))}
    return [
        {"name": f"{slug(table.task)}.{end}", "kind": kind, "text": text, "address": f"data:text/plain,{quote(text)}"}
        for end, (kind, text) in files.items()
    ]


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
