"""The data of the page's charts: numbers unrounded, missing values left out; a group is a row of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reports.costs.fields import COSTS
from reports.costs.table import build_cost_table
from reports.errors import ReportError
from reports.intrinsic import IntrinsicRecord
from reports.page.sweep_data import sweep_data
from reports.page.training_data import losses, quality
from reports.records import Collection
from reports.references import references
from reports.run_groups import RunGroup, plot_lines
from reports.spectra import Spectrum, layer_and_type, layers_in_order, spectra
from reports.tables import Table
from reports.text import notes
from reports.text.costs import labels
from reports.text.format import one_line
from reports.text.table import mean_text


def chart_data(table: Table, part: Collection) -> dict[str, Any]:
    """The data of one task's charts."""
    costs = [name for name in COSTS if any(group.cost(name) for group in table.rows)]
    fields = _fields(table.rows)
    lines = _lines(table.rows, fields)
    return {
        "metrics": [_metric(table, name) for name in table.metrics],
        "costs": [{"name": name, "title": COSTS[name].title.capitalize(), "unit": COSTS[name].unit} for name in costs],
        "fields": fields,
        "methods": sorted({group.method for group in table.rows}),
        "groups": [_group(table, group, costs) | {"line": lines.get(id(group))} for group in table.rows],
        "losses": [*losses(table.rows)],
        "quality": quality(table),
        "bars": _bars(part, table.task),
        "intrinsic": [_intrinsic(record) for record in part.intrinsic.values()],
        "spectra": [*_spectra(table.rows)],
        "sweep": sweep_data(table),
    }


def _fields(groups: Sequence[RunGroup]) -> list[str]:
    """Size fields, the most frequent first."""
    fields = [group.size.field for group in groups if group.size]
    return sorted(set(fields), key=lambda field: (-fields.count(field), field))


def _lines(groups: Sequence[RunGroup], fields: Sequence[str]) -> dict[int, str]:
    """The name of the line that joins a group to others, by the group's identity."""
    sized = ([g for g in groups if g.finished and g.size and g.size.field == field] for field in fields)
    return {id(g): one_line(name) for own in sized for name, line in plot_lines(own).items() for g in line}


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


def _bars(part: Collection, task: str) -> dict[str, Any]:
    """Every cost of the cost table: its values by row, None where a row has none."""
    try:
        table = build_cost_table(part.folder, task)
    except ReportError:  # neither a cost record nor a finished run
        return {"rows": [], "lines": []}
    named = zip(table.rows, labels(table.rows), strict=True)
    rows = [{"method": row.method, "label": one_line(row.label), "name": one_line(name)} for row, name in named]
    lines = []
    for line in table.lines().values():
        cells = [line.cell(row) for row in table.rows]
        values = [None if cell is None else [cell.value, cell.low, cell.high] for cell in cells]
        lines.append({"title": line.title.removeprefix("- "), "unit": line.unit, "values": values})
    return {"rows": rows, "lines": lines}


def _intrinsic(record: IntrinsicRecord) -> dict[str, Any]:
    levels = {
        f"{100 * record.threshold:g} %": [seed.target for seed in record.measured],
        record.goal: [seed.goal.value for seed in record.measured],
        "untuned base": [seed.goal.base for seed in record.measured],
    }
    curves = [
        {
            "name": one_line(curve.name),
            "method": curve.method,
            "field": curve.field,
            "text": curve.text,
            "value": curve.value,
            "seeds": [
                {"seed": s.seed, "points": sorted([p.size, p.value] for p in s.points if p.value is not None)}
                for s in curve.seeds
            ],
        }
        for curve in record.curves
    ]
    return {
        "title": one_line(record.title),
        "metric": record.metric,
        "better": record.better,
        "curves": curves,
        "levels": [
            {"title": one_line(name), "value": float(np.mean(known))}
            for name, values in levels.items()
            if (known := [value for value in values if value is not None])
        ],
    }


def _spectra(groups: Sequence[RunGroup]) -> Iterator[dict[str, Any]]:
    """Of each group's first run whose files hold its update: the median spectrum, and measures by layer and matrix.

    The median spectrum ends where fewer than 90 % of the matrices have a direction left.
    """
    for index, group in enumerate(groups):
        for run in group.finished:
            try:
                matrices = spectra(run)
            except ReportError:
                continue
            curves = [s.values[: s.rank] / s.values[0] for s in matrices.values()]
            length = int(np.percentile([len(curve) for curve in curves], 10))
            median = [float(np.median([c[i] for c in curves if len(c) > i])) for i in range(length)]
            by_matrix = {name: _by_matrix(matrices, name) for name in ("energy_rank", "intruders")}
            yield {"group": index, "seed": run.record.seed, "median": median} | by_matrix
            break


def _by_matrix(matrices: Mapping[str, Spectrum], measure: str) -> list[list[Any]]:
    """Layer, name and value of each matrix that has the measure, in the order of the layers."""
    values = {key: value for key in layers_in_order(matrices) if (value := getattr(matrices[key], measure)) is not None}
    return [[one_line(layer_and_type(key)[0]), one_line(key), value] for key, value in values.items()]
