"""Quality over size, and loss over steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

from reports import notes
from reports.plots.style import GREY, QUIET, canvas, colours, markers, plain
from reports.run_groups import RunGroup, lines_of

DASHES = ("-", "--", ":", "-.")  # of the lines of one method
LETTERS_AN_INCH = 13  # of a legend


def size_curves(arms: Sequence[RunGroup], metric: str) -> Figure | None:
    """The metric over size, a panel a size field (a rank is no prefix length); None where no arm has a size.

    Points are means over seeds with their 95 % interval, small dots the seeds; arms without a size and the base and
    floors are lines across.
    """
    arms = [arm for arm in arms if arm.values(metric)]
    fields = sorted({arm.size.field for arm in arms if arm.size})
    if not fields:
        return None
    figure, panels = canvas(len(fields), sharey=True)
    for panel, field in zip(panels, fields, strict=True):
        _panel(panel, arms, metric, field)
    _limits(panels[0], arms, metric)
    for panel in panels:
        _lines_across(panel, arms, metric)
    _legend(figure, panels)
    lower = arms[0].figures(metric)[0].better == "lower"
    unit = notes.unit_text([figure for arm in arms for figure in arm.figures(metric)])
    panels[0].set_ylabel(plain(f"{metric}{f' ({unit})' if unit else ''}, {'lower' if lower else 'higher'} is better"))
    return figure


def _panel(panel: Axes, arms: Sequence[RunGroup], metric: str, field: str) -> None:
    paint, shape = colours([arm.method for arm in arms]), markers([arm.method for arm in arms])
    sized = [arm for arm in arms if arm.size and arm.size.field == field]
    drawn: dict[str, int] = defaultdict(int)  # lines by method
    for name, line in lines_of(sized).items():
        sizes = [arm.size.value for arm in line if arm.size]
        means = [mean for arm in line if (mean := arm.mean(metric))]
        values = [mean.value for mean in means]
        method = line[0].method
        panel.plot(
            sizes,
            values,
            DASHES[drawn[method] % len(DASHES)],
            color=paint[method],
            marker=shape[method],
            markersize=5,
            linewidth=1.6,
            label=plain(name),
        )
        drawn[method] += 1
        for size, mean, arm in zip(sizes, means, line, strict=True):
            if mean.low is not None and mean.high is not None:
                alone = mean.how == "items of one run"
                panel.vlines(size, mean.low, mean.high, paint[method], linewidth=0.8 if alone else 1.6, alpha=0.75)
            if mean.n > 1:
                panel.plot([size] * mean.n, arm.values(metric), ".", color=paint[method], markersize=3, alpha=0.45)
    _size_axis(panel, sorted({arm.size.value for arm in sized if arm.size}))
    panel.set_xlabel(plain(field))
    if GREY in paint.values():
        _name_the_best(panel, sized, metric)


def _name_the_best(panel: Axes, arms: Sequence[RunGroup], metric: str) -> None:
    """Where methods are too many for a legend, the best arm of the panel is named."""
    lower = arms[0].figures(metric)[0].better == "lower"
    best = min(arms, key=lambda arm: sum(arm.values(metric)) / len(arm.values(metric)) * (1 if lower else -1))
    if best.size:
        at = (best.size.value, sum(best.values(metric)) / len(best.values(metric)))
        panel.annotate(plain(best.label), at, (0, 5), textcoords="offset points", ha="center", fontsize=7)


def _size_axis(panel: Axes, sizes: Sequence[float]) -> None:
    panel.set_xscale("log", base=2)
    shown = [s for i, s in enumerate(sizes) if i in (0, len(sizes) - 1) or s / sizes[i - 1] > 1.5]
    panel.xaxis.set_major_locator(FixedLocator(shown))
    panel.xaxis.set_minor_locator(NullLocator())
    short = EngFormatter(sep="\N{NARROW NO-BREAK SPACE}")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else short(value)))
    panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)


def _limits(panel: Axes, arms: Sequence[RunGroup], metric: str) -> None:
    """Room for all means and seeds; two seeds' enormous intervals and a far-off base may leave the frame."""
    values = [value for arm in arms for value in arm.values(metric)]
    span = (max(values) - min(values)) or abs(values[0]) or 1.0
    ends = [end for arm in arms if (m := arm.mean(metric)) for end in (m.low, m.high) if end is not None]
    low = max(min([*ends, *values]), min(values) - span / 2)
    high = min(max([*ends, *values]), max(values) + span / 2)
    panel.set_ylim(low - 0.08 * span, high + 0.08 * span)


def _lines_across(panel: Axes, arms: Sequence[RunGroup], metric: str) -> None:
    paint = colours([arm.method for arm in arms])
    for arm in (arm for arm in arms if arm.size is None):
        mean = arm.mean(metric)
        if mean is None or GREY in paint.values():
            continue
        panel.axhline(
            mean.value, color=paint[arm.method], linewidth=1.4, linestyle=(0, (6, 2)), label=plain(arm.method)
        )
        if mean.low is not None and mean.high is not None:
            panel.axhspan(mean.low, mean.high, color=paint[arm.method], alpha=0.08, linewidth=0)
    bottom, top = panel.get_ylim()
    for name, values in notes.references(arms, metric).items():
        value = float(np.mean(values))
        if bottom <= value <= top:
            panel.axhline(value, color=GREY, linewidth=1, linestyle=":")
            place = {
                "xycoords": ("axes fraction", "data"),
                "ha": "right",
                "va": "bottom",
                "fontsize": 7,
                "color": QUIET,
            }
            panel.annotate(notes.REFERENCE_TITLES[name], (0.995, value), **place)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend above all panels, beside the title; a panel its own where names are long. None where methods are
    too many for colours."""
    own = [dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)) for panel in panels]
    found = {name: handle for names in own for name, handle in names.items()}
    if not found or any(isinstance(handle, Line2D) and handle.get_color() == GREY for handle in found.values()):
        return
    names = sorted(found)
    if len(names) <= 5 and sum(len(name) + 6 for name in names) <= LETTERS_AN_INCH * figure.get_figwidth():
        handles = [found[name] for name in names]
        figure.legend(handles, names, loc="outside upper right", ncols=len(names), fontsize=8)
        return
    for panel, mine in zip(panels, own, strict=True):
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "fontsize": 8}
        panel.legend([mine[name] for name in sorted(mine)], sorted(mine), **place)


def loss_curves(arms: Sequence[RunGroup]) -> Figure | None:
    """Training loss (a running mean over a twentieth of the steps), and validation loss where it was taken.

    A line a run, coloured by method, the stronger the larger. None where no run has its steps.
    """
    steps = {run.folder: run.steps() for arm in arms for run in [*arm.finished, *arm.failed]}
    kinds = [k for k in ("loss", "validation_loss") if any(_numbers(lines, k)[1].size > 1 for lines in steps.values())]
    if not kinds:
        return None
    figure, panels = canvas(len(kinds))
    for panel, kind in zip(panels, kinds, strict=True):
        _loss_panel(panel, arms, steps, kind)
    _legend(figure, panels)
    return figure


def _loss_panel(panel: Axes, arms: Sequence[RunGroup], steps: Mapping, kind: str) -> None:
    paint = colours([arm.method for arm in arms])
    largest = {
        arm.method: max(a.size.value for a in arms if a.method == arm.method and a.size) for arm in arms if arm.size
    }
    named: set[str] = set()
    for arm in sorted(arms, key=lambda arm: -(arm.size.value if arm.size else 0)):
        alpha = 0.9 if arm.size is None else 0.3 + 0.6 * arm.size.value / largest[arm.method]
        for run in [*arm.finished, *arm.failed]:
            at, values = _numbers(steps[run.folder], kind)
            if values.size > 1:
                width = max(1, len(values) // 20) if kind == "loss" else 1
                smooth = np.convolve(values, np.ones(width) / width, "valid")
                label = None if arm.method in named else plain(arm.method)
                named.add(arm.method)
                panel.plot(at[width - 1 :], smooth, color=paint[arm.method], alpha=alpha, linewidth=1.2, label=label)
    panel.set_xlabel("step")
    panel.set_ylabel("training loss, running mean" if kind == "loss" else "validation loss")


def _numbers(lines: Sequence[Mapping], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values where the value is a finite number."""
    pairs = [(line["step"], line[kind]) for line in lines if isinstance(line.get(kind), int | float)]
    table = np.array(pairs, float).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]
