"""Main effects of settings: the model's mean of the metric at each value, a panel per setting, the largest first."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.plots.cells import mark_cut_intervals
from reports.plots.style import COLOURS, GREY, QUIET, escape, metric_label, new_figure, set_value_ticks
from reports.run_groups import value_text
from reports.sweeps.main_effects import HOW, Effect, Model, effect_notes, main_effects
from reports.tables import Table

COLUMNS, ROWS = 4, 4  # panels side by side; methods


def effect_plots(table: Table, metric: str | None = None) -> tuple[Figure, list[str]]:
    """The figure and the notes below it; one row of panels per method.

    Raises ReportError if no method's runs differ in a setting.
    """
    models = main_effects(table, metric)[:ROWS]
    shown = [(model, model.effects[:COLUMNS]) for model in models]
    columns = max(len(effects) for _, effects in shown)
    figure, panels = new_figure(columns, len(shown), width=3.0, height=2.9, sharey="row")
    for row, (model, effects) in enumerate(shown):
        own = panels[row * columns : (row + 1) * columns]
        for panel, effect in zip(own, effects, strict=False):
            _panel(panel, model, effect)
            several = f"{model.method}: " if len(models) > 1 else ""
            panel.set_title(escape(f"{several}{effect.setting}"), fontsize=9 if several == "" else 8)
        for surplus in own[len(effects) :]:
            surplus.set_visible(False)
        own[0].set_ylabel(metric_label(model.metric, table.rows, table.lower_is_better[model.metric]), fontsize=8)
    more = [model.method for model in models if len(model.effects) > COLUMNS]
    left = [f"{method}: the {COLUMNS} largest effects." for method in more]
    return figure, [*(line for model in models for line in effect_notes(model)), HOW, *left]


def _panel(panel: Axes, model: Model, effect: Effect) -> None:
    places = range(len(effect.levels))
    means = [level.mean for level in effect.levels]
    panel.plot(places, means, "-", color=GREY, linewidth=1)
    for x, level in zip(places, effect.levels, strict=True):
        panel.vlines(x, level.low, level.high, COLOURS[0], linewidth=1.6, alpha=0.7)
    panel.plot(places, means, "o", color=COLOURS[0], markersize=5)
    if model.log:
        panel.set_yscale("log")
    _fit(panel, model.effects, model.log)
    mark_cut_intervals(panel, places, effect.levels, COLOURS[0])
    set_value_ticks(panel, places, [value_text(level.value) for level in effect.levels])
    panel.set_xlim(-0.5, len(places) - 0.5)
    panel.set_xlabel(f"{_percent(effect.share)} of variance, p {_p_text(effect.p)}", fontsize=8, color=QUIET)


def _fit(panel: Axes, effects: Sequence[Effect], log: bool) -> None:
    """The means of all settings fill half of the panel or more; intervals that are longer leave it."""
    means = [level.mean for effect in effects for level in effect.levels]
    low, high = min(means), max(means)
    ends = [end for effect in effects for level in effect.levels for end in (level.low, level.high)]
    if log:
        factor = max(high / low, 1.2)
        panel.set_ylim(max(min(ends), low / factor) / 1.1, min(max(ends), high * factor) * 1.1)
    else:
        span = (high - low) or abs(high) or 1.0
        panel.set_ylim(max(min(ends), low - 0.6 * span) - 0.05 * span, min(max(ends), high + 0.6 * span) + 0.05 * span)


def _percent(share: float) -> str:
    return "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
