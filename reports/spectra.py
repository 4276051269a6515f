"""Spectra of trained updates: effective rank, amplification, and the similarity of two runs' subspaces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.errors import ReportError
from reports.records import Run, first_line, inside
from reports.text.format import one_line

ENERGY = 0.9
INTRUDER, LEADING = 0.5, 10  # |cosine| below which one of so many leading directions is an intruder
OUTSIDE = "other"  # of the layers: embeddings, the first and the last convolution
MIDDLE = "mid_block"  # of a UNet: it has no number
ROUNDING = 1e-5  # singular values below this share of the largest are rounding errors
FACTOR = re.compile(
    r"(?P<key>.+)\.lora_A(?P<end>.*)"
)  # names of low-rank factors in the files of loralib, peft and this project


@dataclass(frozen=True)
class Spectrum:
    """Update of one matrix: singular values (k,) in falling order, and orthonormal right singular vectors (rows, in).

    `right` comes from the factor A if the file has one (LoRA paper, section 7.2), else from the update itself.
    `base_norms[r - 1]` is ||U_r^T W V_r||_F, U_r and V_r the first r directions of the update, W the untuned matrix.
    `resemblance` is, for each leading left singular vector of W + dW, its largest |cosine| with one of W's.
    """

    shape: tuple[int, int]
    values: np.ndarray
    right: np.ndarray
    base_norms: np.ndarray | None = None
    resemblance: np.ndarray | None = None

    @property
    def intruders(self) -> int | None:
        """Leading directions of the tuned matrix that resemble none of W_0's (Shuttleworth et al. 2024)."""
        return None if self.resemblance is None else int((self.resemblance[:LEADING] < INTRUDER).sum())

    @property
    def rank(self) -> int:
        return int((self.values > ROUNDING * self.values[0]).sum())

    @property
    def participation(self) -> float:
        """(sum s^2)^2 / sum s^4: the number of directions, if all were equally strong."""
        energy = self.values.astype(float) ** 2
        return float(energy.sum() ** 2 / (energy**2).sum())

    @property
    def energy_rank(self) -> int:
        """The smallest number of directions with 90 % of the squared norm."""
        energy = np.cumsum(self.values.astype(float) ** 2)
        return int(np.searchsorted(energy, ENERGY * energy[-1] * (1 - 1e-9)) + 1)

    @property
    def amplification(self) -> tuple[float, int] | None:
        """||dW||_F / ||U^T W V||_F over the update's first r directions, and r (LoRA paper, section 7.3)."""
        if self.base_norms is None:
            return None
        r = min(self.rank, len(self.base_norms))
        return float(np.sqrt((self.values[:r].astype(float) ** 2).sum()) / self.base_norms[r - 1]), r


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """phi(i, j) = ||U_i^T U_j||_F^2 / min(i, j) for two sets of orthonormal rows: 0 orthogonal, 1 nested.

    Returned at [i - 1, j - 1] (LoRA paper, section 7.2, equation 4).
    """
    shared = np.cumsum(np.cumsum((first.astype(float) @ second.astype(float).T) ** 2, 0), 1)
    i, j = np.indices(shared.shape) + 1
    return shared / np.minimum(i, j)


def spectra(run: Run) -> dict[str, Spectrum]:
    """The spectrum of each matrix, in the order of the file. Raises ReportError if the run's files hold no update."""
    stored = dict(_stored(run))
    for key, factors in _factors(run).items():
        stored[key] = replace(stored[key], right=factors.right) if key in stored else factors
    if not stored:
        raise ReportError(
            f"'{run.folder}' has no low-rank factors and no spectra.safetensors: "
            f"`python -m experiments.truncate {run.folder}` writes one if the method can be merged"
        )
    return stored


def _stored(run: Run) -> Iterator[tuple[str, Spectrum]]:
    """The spectra that `experiments.truncate` wrote to spectra.safetensors."""
    tensors, metadata = _read(run, "spectra.safetensors")
    try:
        for key, shape in json.loads(metadata.get("shapes", "{}")).items():
            parts = [tensors[f"{key}/{name}"] for name in ("values", "right", "base_norms")]
            yield key, Spectrum(tuple(shape), *parts, resemblance=tensors.get(f"{key}/resemblance"))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReportError(
            f"'{run.folder}/spectra.safetensors' does not have the form that experiments.truncate writes: {error}"
        ) from None


def _factors(run: Run) -> dict[str, Spectrum]:
    """For each pair of factors A (rank, in), B (out, rank) in adapter.safetensors: values of B A, vectors of A."""
    tensors, _ = _read(run, "adapter.safetensors")
    factors = {}
    for name, down in tensors.items():
        match = FACTOR.fullmatch(name)
        up = tensors.get(f"{match['key']}.lora_B{match['end']}") if match else None
        if match and up is not None:
            a, b = down.reshape(len(down), -1).astype(float), up.reshape(len(up), -1).astype(float)
            b_root, a_root = (np.asarray(np.linalg.qr(factor, "r")) for factor in (b, a.T))
            values = np.linalg.svd(b_root @ a_root.T, compute_uv=False)
            right = np.linalg.svd(a, full_matrices=False)[2]
            factors[match["key"]] = Spectrum((len(b), a.shape[1]), values, right)
    return {key: spectrum for key, spectrum in factors.items() if spectrum.values.any()}


def by_layer(values: Mapping[str, float]) -> dict[tuple[str, str], list[float]]:
    """The values of the matrices by layer and type, layers in the order of their numbers.

    The layer is the matrix's name up to its first number (h.0, down_blocks.1), the type its last two words without
    numbers (attn.c_proj, attn1.to_q); a matrix without a number lies outside of the layers.
    """
    places: dict[tuple[str, str], list[float]] = {}
    for key in layers_in_order(values):
        places.setdefault(layer_and_type(key), []).append(values[key])
    return places


def layers_in_order(keys: Iterable[str]) -> list[str]:
    """The matrices by the numbers in their names (h.2 before h.10), those outside of the layers last."""
    return sorted(keys, key=lambda key: (layer_and_type(key)[0] == OUTSIDE, _by_number(key)))


def layer_and_type(key: str) -> tuple[str, str]:
    """A matrix's block with its number, and the last two words of its name: "h.0" and "attn.c_attn"."""
    parts = key.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    kind = ".".join([part for part in parts if not part.isdigit()][-2:])
    if MIDDLE in parts:
        return MIDDLE, kind
    return (OUTSIDE if at is None else ".".join(parts[max(0, at - 1) : at + 1]), kind)


def _by_number(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")]


def _read(run: Run, name: str) -> tuple[Mapping[str, np.ndarray], Mapping[str, str]]:
    """Tensors and metadata of a .safetensors file in the run's folder; empty if there is none."""
    from safetensors import SafetensorError, safe_open

    file = inside(run.folder, name)
    if file is None or not file.is_file():
        return {}, {}
    try:
        with safe_open(str(file), "np") as content:
            return {key: content.get_tensor(key) for key in content.keys()}, content.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise ReportError(f"'{file}' cannot be read ({first_line(error)}); run it again") from None


def spectra_report(run: Run) -> str:
    """The spectra of one run as a table. Raises ReportError if the run's files hold no update."""
    return "\n".join([f"{run.label}, {run.folder}", *_spectra_table(spectra(run))])


def similarity_report(first: Run, second: Run) -> str:
    """The similarity of two runs' updates as a table. Raises ReportError if they share no matrix."""
    pair = spectra(first), spectra(second)
    phi = {key: similarity(pair[0][key].right, pair[1][key].right) for key in shared_matrices(pair)}
    lines = [f"{name}: {run.label}, {run.folder}" for name, run in zip("AB", (first, second), strict=True)]
    return "\n".join([*lines, *_similarity_table(phi, pair[0])])


def shared_matrices(pair: Sequence[Mapping[str, Spectrum]]) -> list[str]:
    """Matrices that both runs updated. Raises ReportError if there are none."""
    first, second = pair
    keys = [key for key in first if key in second and first[key].shape[1] == second[key].shape[1]]
    if not keys:
        raise ReportError("the two runs updated no matrix in common: pass two runs on the same base model")
    return keys


def _spectra_table(by_matrix: Mapping[str, Spectrum]) -> list[str]:
    from tabulate import tabulate

    titles = [
        "matrix",
        "out x in",
        "rank",
        "participation ratio",
        "90 % energy",
        "||dW||_F",
        "amplification",
        "intruders",
    ]
    rows = []
    for key, s in by_matrix.items():
        row = [one_line(key), f"{s.shape[0]} x {s.shape[1]}", s.rank, f"{s.participation:.2f}", s.energy_rank]
        amplified = s.amplification
        if amplified:
            row += [f"{np.linalg.norm(s.values):.3g}", f"{amplified[0]:.3g} (r={amplified[1]})"]
            row += ["" if s.intruders is None else s.intruders]
        rows.append(row)
    width = max(map(len, rows))
    align = ["left", *["right"] * (width - 1)]
    table = tabulate(rows, titles[:width], tablefmt="plain", disable_numparse=True, colalign=align)
    medians = [np.median([getattr(s, name) for s in by_matrix.values()]) for name in ("participation", "energy_rank")]
    return [
        *table.splitlines(),
        f"Median of {len(by_matrix)} matrices: participation ratio {medians[0]:.2f}, "
        f"90 % energy {medians[1]:g} directions.",
        "Participation ratio: (sum s^2)^2 / sum s^4 over the singular values s of the update. 90 % energy: the "
        "smallest number of directions with 90 % of sum s^2.",
        "Amplification: ||dW||_F / ||U^T W V||_F over the first r directions of the update (LoRA paper, section 7.3). "
        f"Intruders: of the first {LEADING} left singular vectors of W + dW, those with |cosine| < {INTRUDER} to every "
        "one of W's (Shuttleworth et al. 2024); an empty cell: run `python -m experiments.truncate RUN` again."
        if width == len(titles)
        else "Norms and amplification need the base's weights: run `python -m experiments.truncate RUN` first.",
    ]


def _similarity_table(phi: Mapping[str, np.ndarray], by_matrix: Mapping[str, Spectrum]) -> list[str]:
    from tabulate import tabulate

    rows = []
    for key, p in phi.items():
        width, r = by_matrix[key].shape[1], min(p.shape)
        shared = [f"{p[0, 0]:.3f}", f"{p[0, -1]:.3f}", f"{p[r - 1, r - 1]:.3f} ({r})"]
        rows.append([one_line(key), width, *shared, f"{r / width:.3f}"])
    titles = ["matrix", "in", "phi(1,1)", "phi(1,all)", "phi(r,r) (r)", "two random r-spaces"]
    table = tabulate(rows, titles, tablefmt="plain", disable_numparse=True, colalign=["left", *["right"] * 5])
    means = [np.mean([p[0, 0] for p in phi.values()]), np.mean([p[0, -1] for p in phi.values()])]
    return [
        *table.splitlines(),
        f"Mean of {len(phi)} matrices: phi(1,1) {means[0]:.3f}, phi(1,all) {means[1]:.3f}.",
        "phi(i,j) = ||U_i^T U_j||_F^2 / min(i,j) (LoRA paper, section 7.2), U the right singular vectors of the "
        "update, or of its factor A if it has one. 1: the smaller space lies inside the larger; random spaces: r / in.",
    ]
