"""The page: one static HTML file with everything in it, that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from reports import notes, tables
from reports.plots.sample_grid import LARGEST, first_with_samples, shared_names
from reports.plots.style import slug
from reports.records import Collection
from reports.run_groups import COSTS, RunGroup, lines_of, show_size
from reports.table_text import cost_text, mean_text, one_line, verdict_text
from reports.tables import Table

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL, PROMPTS = 192, 12  # pixels along the longer side, and pictures an arm


def write_page(collection: Collection, out: Path) -> Path:
    """Write OUT/index.html. The same records give the same bytes."""
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
    """Only our own style and script run (by their hash), pictures are in the file, nothing else is loaded or sent."""
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> Markup:
    """JSON that cannot end the script element that it stands in."""
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
            *(note for metric in table.metrics for note in notes.measured_with(table.rows, [metric])),
            *filter(None, (notes.held_against(table.rows, name) for name in table.metrics)),
            *notes.how(table),
        ],
        "warnings": notes.warnings(table.rows, table.metrics),
        "outcomes": [*part.outcomes.values()],
        "gallery": _gallery(table.rows),
        "sourced": sorted({run.record.source for arm in table.rows for run in arm.finished} - {"run"}),
    }


def _data(table: Table) -> dict[str, Any]:
    """What the charts draw; numbers unrounded, absent left out."""
    costs = [name for name in COSTS if any(arm.cost(name) for arm in table.rows)]
    finished = [arm for arm in table.rows if arm.finished]
    fields = _fields(table.rows)
    sized = ([arm for arm in finished if arm.size and arm.size.field == field] for field in fields)
    lines = {id(arm): one_line(name) for arms in sized for name, line in lines_of(arms).items() for arm in line}
    return {
        "metrics": [_metric(table, name) for name in table.metrics],
        "costs": [{"name": name, "title": COSTS[name].title, "unit": COSTS[name].unit} for name in costs],
        "fields": fields,
        "methods": sorted({arm.method for arm in table.rows}),
        "arms": [_arm(table, arm, costs) | {"line": lines.get(id(arm))} for arm in finished],
    }


def _fields(arms: Sequence[RunGroup]) -> list[str]:
    """Size fields, the one with most arms first."""
    fields = [arm.size.field for arm in arms if arm.size]
    return sorted(set(fields), key=lambda field: (-fields.count(field), field))


def _metric(table: Table, name: str) -> dict[str, Any]:
    figures = [figure for arm in table.rows for figure in arm.figures(name)]
    held = notes.references(table.rows, name)
    return {
        "name": name,
        "lower": table.lower_is_better[name],
        "unit": notes.unit_text(figures),
        "note": ", ".join(filter(None, [notes.n_text(figures), notes.extractor_text(figures)])),
        "held": [{"title": notes.REFERENCE_TITLES[key], "value": sum(v) / len(v)} for key, v in held.items()],
    }


def _arm(table: Table, arm: RunGroup, costs: Sequence[str]) -> dict[str, Any]:
    means = {name: mean for name in table.metrics if (mean := arm.mean(name))}
    return {
        "method": arm.method,
        "field": arm.size.field if arm.size else None,
        "size": arm.size.value if arm.size else None,
        "label": one_line(arm.label),
        "settings": one_line(arm.settings_text),
        "seeds": len(arm.finished),
        "values": {name: [mean.value, mean.low, mean.high] for name, mean in means.items()},
        "texts": {name: mean_text(mean) for name, mean in means.items()},
        "costs": {name: cost for name in costs if (cost := arm.cost(name))},
    }


def _columns(table: Table) -> list[dict[str, Any]]:
    sizes = sorted({arm.size.field for arm in table.rows if arm.size})
    columns = [{"title": "method", "number": False}, {"title": sizes[0] if len(sizes) == 1 else "size", "number": True}]
    columns += [{"title": "settings", "number": False}] if any(arm.settings for arm in table.rows) else []
    columns += [{"title": "seeds", "number": True}]
    for name in table.metrics:
        columns.append({"title": f"{name} {'↓' if table.lower_is_better[name] else '↑'}", "number": True})
        columns.append({"title": f"{name} against {table.reference.label if table.reference else ''}", "number": False})
    return columns + [{"title": cost.title.lower(), "number": True} for cost in COSTS.values()]


def _row(table: Table, index: int) -> list[dict[str, Any]]:
    """Cells as text and, where a column sorts by number, that number."""
    arm = table.rows[index]
    failed = f" +{len(arm.failed)} failed" if arm.failed else ""
    cells = [_cell(arm.method), _cell(show_size(arm.size), arm.size.value if arm.size else None)]
    cells += [_cell(arm.settings_text)] if any(other.settings for other in table.rows) else []
    cells += [_cell(f"{len(arm.finished)}{failed}", len(arm.finished))]
    for name in table.metrics:
        mean = arm.mean(name)
        cells += [_cell(mean_text(mean), mean.value if mean else None), _cell(verdict_text(table, index, name))]
    return cells + [_cell(cost_text(name, arm.cost(name)), arm.cost(name)) for name in COSTS]


def _cell(text: str, number: float | None = None) -> dict[str, Any]:
    return {"text": one_line(text), "number": number}


def _gallery(arms: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """A row a prompt, a picture an arm: all of one row share prompt and seed."""
    shown = [(arm, run) for arm in sorted(arms, key=_by_method) if (run := first_with_samples(arm))]
    captions = {name: text for _, run in reversed(shown) for name, text in run.captions().items()}
    samples = [(arm, run, run.samples()) for arm, run in shown]
    rows = []
    for name in shared_names([run for _, run in shown])[:PROMPTS]:
        pictures = [
            {"label": arm.label, "method": arm.method, "seed": run.record.seed, "source": source}
            for arm, run, files in samples
            if name in files and (source := thumbnail(files[name]))
        ]
        if pictures:
            rows.append({"caption": captions.get(name, name.removesuffix(".png")), "pictures": pictures})
    return rows


def _by_method(arm: RunGroup) -> tuple[str, float]:
    return arm.method, arm.size.value if arm.size else 0.0


def thumbnail(path: Path) -> str | None:
    """A picture as a data: address, made small; None where the file is no picture."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LARGEST:
                return None
            small = picture.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        small.save(buffer := io.BytesIO(), "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's ways to say: no picture
        return None
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
