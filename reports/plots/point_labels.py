"""Labels of the points of a scatter plot: each beside its point, on a side where nothing is in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import Any

from matplotlib.axes import Axes

from reports.plots.style import MOST_METHODS, QUIET, escape
from reports.run_groups import RunGroup, distinct_label, size_text
from reports.text.format import one_line

PANEL = (270.0, 190.0)  # points, about the size of a panel
HEIGHT, CHARACTER = 7.5, 4.3  # points, of a label
SIDES = ((4, 3), (-5, 0), (5, 0), (4, -3), (-4, 3), (-4, -3), (0, 6), (0, -6))  # points, the preferred one first
ALIGN = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}

Box = tuple[float, float, float, float]


def short_labels(groups: Sequence[RunGroup]) -> list[str]:
    """A label of a few characters per group: its size if colour and size identify it, else its number in the key."""
    if _sizes_suffice(groups):
        return [size_text(group.size) for group in groups]
    return [str(number) for number in range(1, len(groups) + 1)]


def label_key(groups: Sequence[RunGroup]) -> str:
    """The groups behind the labels: numbers with their group, or what the sizes are."""
    if _sizes_suffice(groups):
        fields = sorted({group.size.field for group in groups if group.size})
        return f"Numbers beside the points: {' or '.join(fields)}." if fields else ""
    names = (one_line(distinct_label(group, groups)) for group in groups)
    return f"Points: {'; '.join(f'{number} {name}' for number, name in enumerate(names, 1))}."


def _sizes_suffice(groups: Sequence[RunGroup]) -> bool:
    """Whether a method's colour, its marker and the size tell the groups apart."""
    labels = Counter(group.label for group in groups)
    return len({group.method for group in groups}) <= MOST_METHODS and max(labels.values(), default=0) <= 1


def label_points(panel: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], above: bool) -> None:
    """Write each label where it covers no point and no other label, as far as there is room; limits must be final.

    Labels are preferably `above` their points, or else below: where no front passes.
    """
    sides = [(x, y if above else -y) for x, y in SIDES]
    places = [_place(panel, point) for point in points]
    taken: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in places]
    for point, place, label in zip(points, places, labels, strict=True):
        boxes = {side: _box(place, side, len(label)) for side in sides}
        side = min(sides, key=lambda side: (sum(_overlap(boxes[side], other) for other in taken), sides.index(side)))
        taken.append(boxes[side])
        horizontal, vertical = (ALIGN[(shift > 0) - (shift < 0)] for shift in side)
        align: dict[str, Any] = {"ha": horizontal[0], "va": vertical[1]}
        panel.annotate(escape(label), point, side, textcoords="offset points", fontsize=6.5, color=QUIET, **align)


def _place(panel: Axes, point: tuple[float, float]) -> tuple[float, float]:
    """A point in points from the lower left corner of a panel of the usual size."""
    scales = (panel.get_xscale(), panel.get_yscale())
    limits = (panel.get_xlim(), panel.get_ylim())
    shares = [
        log(value / low) / log(high / low) if scale == "log" else (value - low) / (high - low)
        for value, scale, (low, high) in zip(point, scales, limits, strict=True)
    ]
    return shares[0] * PANEL[0], shares[1] * PANEL[1]


def _box(place: tuple[float, float], side: tuple[int, int], characters: int) -> Box:
    width, (x, y) = CHARACTER * characters, (place[0] + side[0], place[1] + side[1])
    left = x - width * (side[0] < 0) - width / 2 * (side[0] == 0)
    bottom = y - HEIGHT * (side[1] < 0) - HEIGHT / 2 * (side[1] == 0)
    return left, bottom, left + width, bottom + HEIGHT


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
