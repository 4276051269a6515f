"""The spectra of trained updates for people: a table, a heat map of similarity, the decay of singular values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.errors import ReportError
from reports.records import Run, read_run
from reports.spectra import Spectrum, similarity, spectra
from reports.table_text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def report(folders: Sequence[Path], out: Path | None) -> str:
    """The table of one run's spectra, or of two runs' similarity; with `out`, a plot of it is written there."""
    runs = [read_run(folder) for folder in folders]
    found = [spectra(run) for run in runs]
    if len(runs) == 1:
        lines = [f"{runs[0].label}, {runs[0].folder}", *_spectra_table(found[0])]
    else:
        phi = {key: similarity(found[0][key].right, found[1][key].right) for key in common(found)}
        lines = [f"{name}: {run.label}, {run.folder}" for name, run in zip("AB", runs, strict=True)]
        lines += _similarity_table(phi, found)
    if out is not None:
        lines += [f"written: {file}" for file in _draw(runs, found, out)]
    return "\n".join(lines)


def common(found: Sequence[Mapping[str, Spectrum]]) -> list[str]:
    """Matrices that both have. Raises ReportError where there are none."""
    keys = [key for key in found[0] if key in found[1] and found[0][key].shape[1] == found[1][key].shape[1]]
    if not keys:
        raise ReportError("the two runs have no matrix in common: expected two updates of one base model")
    return keys


def _spectra_table(found: Mapping[str, Spectrum]) -> list[str]:
    from tabulate import tabulate

    titles = ["matrix", "out x in", "rank", "participation ratio", "90 % energy", "||dW||_F", "amplification"]
    rows = []
    for key, s in found.items():
        row = [one_line(key), f"{s.shape[0]} x {s.shape[1]}", s.rank, f"{s.participation:.2f}", s.energy_rank]
        scaled = s.amplification
        rows.append(
            [*row, *([f"{np.linalg.norm(s.values):.3g}", f"{scaled[0]:.3g} (r={scaled[1]})"] if scaled else [])]
        )
    width = max(map(len, rows))
    table = tabulate(
        rows, titles[:width], tablefmt="plain", disable_numparse=True, colalign=["left", *["right"] * (width - 1)]
    )
    middle = [np.median([getattr(s, name) for s in found.values()]) for name in ("participation", "energy_rank")]
    return [
        *table.splitlines(),
        f"Median of {len(found)} matrices: participation ratio {middle[0]:.2f}, 90 % energy {middle[1]:g} directions.",
        "Participation ratio: (sum s^2)^2 / sum s^4 over the update's singular values s; 90 % energy: the fewest "
        "directions that hold 90 % of sum s^2.",
        "Amplification: ||dW||_F / ||U^T W V||_F over the update's first r directions (LoRA paper, section 7.3)."
        if width == len(titles)
        else "For norms and amplification, which need the base's weights: python -m experiments.truncate RUN --ranks",
    ]


def _similarity_table(phi: Mapping[str, np.ndarray], found: Sequence[Mapping[str, Spectrum]]) -> list[str]:
    from tabulate import tabulate

    rows = []
    for key, p in phi.items():
        width = found[0][key].shape[1]
        low = min(p.shape)
        rows.append([one_line(key), width, f"{p[0, 0]:.3f}", f"{p[0, -1]:.3f}", f"{p[low - 1, low - 1]:.3f} ({low})"])
        rows[-1].append(f"{low / width:.3f}")
    titles = ["matrix", "in", "phi(1,1)", "phi(1,all)", "phi(r,r) (r)", "two random r-spaces"]
    table = tabulate(rows, titles, tablefmt="plain", disable_numparse=True, colalign=["left", *["right"] * 5])
    mean = [np.mean([p[0, 0] for p in phi.values()]), np.mean([p[0, -1] for p in phi.values()])]
    return [
        *table.splitlines(),
        f"Mean of {len(phi)} matrices: phi(1,1) {mean[0]:.3f}, phi(1,all) {mean[1]:.3f}.",
        "phi(i,j) = ||U_i^T U_j||_F^2 / min(i,j) (LoRA paper, section 7.2), U the right singular vectors of the "
        "update, or of its factor A where it has one; 1: the smaller space lies in the larger; random ones: r / in.",
    ]


def _draw(runs: Sequence[Run], found: Sequence[Mapping[str, Spectrum]], out: Path) -> list[Path]:
    from reports.plots.style import save, style

    with style():
        if len(runs) == 1:
            figure, notes = _decay(found[0]), [f"{runs[0].label} on {runs[0].record.task}, {len(found[0])} matrices."]
            return save(figure, out / "spectrum", notes)
        figure, count = heat_map(found)
        labels = [f"{name}: {run.label}" for name, run in zip("AB", runs, strict=True)]
        note = (
            f"{', '.join(labels)}; {runs[0].record.task}; mean of phi over {count} matrices; 1: one space in the other."
        )
        return save(figure, out / "similarity", [note])


def heat_map(found: Sequence[Mapping[str, Spectrum]]) -> tuple[Figure, int]:
    """phi(i, j), averaged over the matrices that both have with all of the shown directions; and their number."""
    from matplotlib.ticker import MaxNLocator

    from reports.plots.style import canvas

    keys = common(found)
    sizes = [int(np.median([len(side[key].right) for key in keys])) for side in found]
    keys = [key for key in keys if all(len(side[key].right) >= n for side, n in zip(found, sizes, strict=True))]
    phi = np.mean([similarity(*(side[k].right[:n] for side, n in zip(found, sizes, strict=True))) for k in keys], 0)
    figure, (panel,) = canvas(1)
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


def _decay(found: Mapping[str, Spectrum]) -> Figure:
    """Singular values over their number, as shares of the largest: a thin line a matrix, the median thick.

    The median ends where the smallest tenth of the matrices ends, for beyond it is that of other matrices.
    """
    from reports.plots.style import COLOURS, canvas

    figure, (panel,) = canvas(1)
    curves = [s.values[: s.rank] / s.values[0] for s in found.values()]
    for curve in curves:
        panel.plot(np.arange(1, len(curve) + 1), curve, color=COLOURS[0], alpha=0.2, linewidth=0.8)
    length = int(np.percentile([len(curve) for curve in curves], 10))
    middle = [np.median([curve[i] for curve in curves if len(curve) > i]) for i in range(length)]
    panel.plot(np.arange(1, length + 1), middle, color=COLOURS[1], linewidth=2, label="median matrix")
    panel.set_yscale("log")
    panel.set_xlabel("singular value, by size")
    panel.set_ylabel("share of the largest")
    panel.legend(fontsize=8)
    return figure
