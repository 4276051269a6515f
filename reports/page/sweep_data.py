"""The data of the page's charts of a sweep: settings as axes, heat maps, U-curves, main effects."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

from reports.errors import ReportError
from reports.run_groups import RunGroup, value_text
from reports.sweeps.axes import Facet, facets, is_number, settings_with_size, usual_order, varied
from reports.sweeps.grid import worse_than_base
from reports.sweeps.main_effects import HOW, effect_notes, main_effects
from reports.tables import Table
from reports.text.format import interval_text, one_line

MOST_AXES = 5  # settings that can be chosen as axes


def sweep_data(table: Table) -> dict[str, Any]:
    """What the heat map, the U-curves and the main effects show; groups by their index in the table."""
    names = usual_order(table.rows)[:MOST_AXES]
    values = varied(table.rows)
    return {
        "axes": [{"name": name, "values": [one_line(value_text(value)) for value in values[name]]} for name in names],
        "places": [_places(group, names) for group in table.rows],
        "numbers": [name for name in names if all(map(is_number, values[name]))],
        "grids": {f"{x}|{y}": _grids(table, x, y) for x, y in permutations(names, 2)},
        "lines": {name: [_facet(table, line) for line in facets(table.rows, [name])] for name in names},
        "worse": [[name for name in table.metrics if worse_than_base(group, name)] for group in table.rows],
        "failed": [len(group.failed) for group in table.rows],
        "effects": {metric: models for metric in table.metrics if (models := _effects(table, metric))},
    }


def _places(group: RunGroup, names: list[str]) -> dict[str, str]:
    settings = settings_with_size(group)
    return {name: one_line(value_text(settings[name])) for name in names if name in settings}


def _grids(table: Table, x: str, y: str) -> list[dict[str, Any]]:
    found = facets(table.rows, [x, y])
    distinct = [(facet, [{places[name] for places in _own(facet, [x, y])} for name in (x, y)]) for facet in found]
    return [_facet(table, facet) for facet, values in distinct if all(len(each) > 1 for each in values)]


def _own(facet: Facet, names: list[str]) -> list[dict[str, str]]:
    return [_places(group, names) for group in facet.groups]


def _facet(table: Table, facet: Facet) -> dict[str, Any]:
    rows = {id(group): index for index, group in enumerate(table.rows)}
    return {
        "method": facet.method,
        "size": facet.size.value if facet.size else None,
        "title": one_line(facet.title),
        "groups": [rows[id(group)] for group in facet.groups],
    }


def _effects(table: Table, metric: str) -> list[dict[str, Any]]:
    """One entry per method and setting; none if the runs are too few for a model."""
    try:
        models = main_effects(table, metric)
    except ReportError:
        return []
    return [
        {
            "method": model.method,
            "setting": one_line(effect.setting),
            "share": effect.share,
            "p": effect.p if math.isfinite(effect.p) else None,
            "levels": [
                f"{one_line(value_text(level.value))}: {interval_text(level.mean, level.low, level.high, '[]')}"
                for level in effect.levels
            ],
            "note": f"{effect_notes(model)[0]}; {HOW}",
        }
        for model in models
        for effect in model.effects
    ]
