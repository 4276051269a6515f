"""One measurement from several evaluation seeds: figures are means over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from tasks.base import Figure
from tasks.diffusion.evaluation.metrics.image_metric import Measurement


def average(measurements: Sequence[Measurement]) -> Measurement:
    """The mean over evaluation seeds, with the value under each; a single measurement is returned unchanged."""
    if len(measurements) < 2:
        return measurements[0] if measurements else Measurement()
    first = measurements[0]
    figure = None if first.figure is None else _average_figure(measurements)
    items = [each.item_values for each in measurements if each.item_values is not None]
    return replace(first, figure=figure, item_values=np.mean(items, axis=0).tolist() if items else None)


def _average_figure(measurements: Sequence[Measurement]) -> Figure:
    """Its interval is over items, of the mean; without a sample, the bounds are the means of the seeds' bounds."""
    figures = [each.figure for each in measurements if each.figure is not None]
    means = {name: _mean([getattr(each, name) for each in figures]) for name in ("low", "high", "shuffled")}
    figure = replace(figures[0], **means, evaluation=[each.value for each in figures])
    figure.value = float(np.mean([each.value for each in figures]))
    first = measurements[0]
    if first.interval is not None and first.error is not None:
        sample = np.mean([each.sample for each in measurements], axis=0)
        figure.low, figure.high = first.interval(figure.value, sample)
        figure.standard_error = first.error(sample)
    return figure


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def seed_name(name: str, seed: int) -> str:
    """The name in an evaluation of an artifact that one evaluation seed has measured."""
    return f"{name}/{seed}" if seed else name


def of_seed(artifacts: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The artifacts that one evaluation seed has measured, by the names that its metrics gave them."""
    names = {name.partition("/")[0] for name in artifacts}
    return {name: artifacts[seed_name(name, seed)] for name in names if seed_name(name, seed) in artifacts}
