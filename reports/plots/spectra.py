"""Plots of the spectra of trained updates: decay of singular values, and a heat map of similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.plots.style import COLOURS, new_figure, save, style_context
from reports.records import Run
from reports.spectra import Spectrum, shared_matrices, similarity, spectra


def draw_spectra(runs: Sequence[Run], out: Path) -> list[Path]:
    """Draw OUT/spectrum for one run, OUT/similarity for two; returns the files written."""
    by_run = [spectra(run) for run in runs]
    with style_context():
        if len(runs) == 1:
            figure = decay(by_run[0])
            note = f"{runs[0].label} on {runs[0].record.task}, {len(by_run[0])} matrices."
            return [*save(figure, out / "spectrum", [note])]
        figure, count = heat_map(by_run)
        labels = [f"{name}: {run.label}" for name, run in zip("AB", runs, strict=True)]
        note = f"{', '.join(labels)}; {runs[0].record.task}; mean of phi over {count} matrices; 1: nested spaces."
        return [*save(figure, out / "similarity", [note])]


def heat_map(pair: Sequence[Mapping[str, Spectrum]]) -> tuple[Figure, int]:
    """phi(i, j), averaged over the matrices for which both runs have all directions shown; and their number."""
    keys = shared_matrices(pair)
    sizes = [int(np.median([len(side[key].right) for key in keys])) for side in pair]
    keys = [key for key in keys if all(len(side[key].right) >= n for side, n in zip(pair, sizes, strict=True))]
    phi = np.mean([similarity(*(side[k].right[:n] for side, n in zip(pair, sizes, strict=True))) for k in keys], 0)
    figure, (panel,) = new_figure(1)
    picture = panel.imshow(phi, origin="lower", vmin=0, vmax=1, cmap="viridis", aspect="auto", extent=_edges(phi))
    panel.grid(visible=False)
    panel.set_xlabel("j: first directions of B")
    panel.set_ylabel("i: first directions of A")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(picture, label="phi(i, j)")
    return figure, len(keys)


def _edges(phi: np.ndarray) -> Any:
    return (0.5, phi.shape[1] + 0.5, 0.5, phi.shape[0] + 0.5)


def decay(by_matrix: Mapping[str, Spectrum]) -> Figure:
    """Singular values by rank, as shares of the largest: a thin line per matrix, the median thick.

    The median ends at the length that 90 % of the matrices reach; beyond it would describe only the remaining ones.
    """
    figure, (panel,) = new_figure(1)
    curves = [s.values[: s.rank] / s.values[0] for s in by_matrix.values()]
    for curve in curves:
        panel.plot(np.arange(1, len(curve) + 1), curve, color=COLOURS[0], alpha=0.2, linewidth=0.8)
    length = int(np.percentile([len(curve) for curve in curves], 10))
    median = [np.median([curve[i] for curve in curves if len(curve) > i]) for i in range(length)]
    panel.plot(np.arange(1, length + 1), median, color=COLOURS[1], linewidth=2, label="median matrix")
    panel.set_yscale("log")
    panel.set_xlabel("index of the singular value")
    panel.set_ylabel("share of the largest")
    panel.legend(fontsize=8)
    return figure
