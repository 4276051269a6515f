"""What directions trained updates take: effective rank, amplification, and how alike two runs' directions are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from reports.errors import ReportError
from reports.records import Run, first_line, inside

ENERGY = 0.9
NOTHING = 1e-5  # singular values below this share of the largest are rounding
FACTOR = re.compile(r"(?P<key>.+)\.lora_A(?P<end>.*)")  # the low-rank factors' names in loralib's, peft's and our files


@dataclass(frozen=True)
class Spectrum:
    """One matrix's update: singular values (k,) falling, and right singular vectors (rows, in), orthonormal.

    `right` is that of the factor A where the file has one, as in the LoRA paper's section 7.2, else the update's own.
    `base_norms[r - 1]` is ||U_r^T W V_r||_F, U_r and V_r the first r directions of the update, W the untuned matrix.
    """

    shape: tuple[int, int]
    values: np.ndarray
    right: np.ndarray
    base_norms: np.ndarray | None = None

    @property
    def rank(self) -> int:
        return int((self.values > NOTHING * self.values[0]).sum())

    @property
    def participation(self) -> float:
        """(sum s^2)^2 / sum s^4: how many directions share the update's squared norm, were they to share it equally."""
        energy = self.values.astype(float) ** 2
        return float(energy.sum() ** 2 / (energy**2).sum())

    @property
    def energy_rank(self) -> int:
        """How many directions hold 90 % of the squared norm."""
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
    """phi(i, j) = ||U_i^T U_j||_F^2 / min(i, j) of two sets of orthonormal rows: 0 is orthogonal, 1 one in the other.

    Entry [i - 1, j - 1]; LoRA paper, section 7.2, equation 4.
    """
    shared = np.cumsum(np.cumsum((first.astype(float) @ second.astype(float).T) ** 2, 0), 1)
    i, j = np.indices(shared.shape) + 1
    return shared / np.minimum(i, j)


def spectra(run: Run) -> dict[str, Spectrum]:
    """By matrix, in the file's order. Raises ReportError where the run's files say nothing of its update's matrices."""
    stored = dict(_stored(run))
    for key, factors in _factors(run).items():
        stored[key] = replace(stored[key], right=factors.right) if key in stored else factors
    if not stored:
        raise ReportError(
            f"'{run.folder}' has no low-rank factors and no spectra.safetensors: "
            f"python -m experiments.truncate {run.folder} --ranks writes one, where the method can be merged"
        )
    return stored


def _stored(run: Run) -> Iterator[tuple[str, Spectrum]]:
    """What `experiments.truncate` left in spectra.safetensors."""
    tensors, metadata = _read(run, "spectra.safetensors")
    try:
        for key, shape in json.loads(metadata.get("shapes", "{}")).items():
            parts = [tensors[f"{key}/{name}"] for name in ("values", "right", "base_norms")]
            yield key, Spectrum(tuple(shape), *parts)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReportError(
            f"'{run.folder}/spectra.safetensors' is not as experiments.truncate writes it: {error}"
        ) from None


def _factors(run: Run) -> dict[str, Spectrum]:
    """Of every pair of factors A (rank, in) and B (out, rank) in adapter.safetensors, B A's values and A's vectors."""
    tensors, _ = _read(run, "adapter.safetensors")
    found = {}
    for name, down in tensors.items():
        match = FACTOR.fullmatch(name)
        up = tensors.get(f"{match['key']}.lora_B{match['end']}") if match else None
        if match and up is not None:
            a, b = down.reshape(len(down), -1).astype(float), up.reshape(len(up), -1).astype(float)
            b_root, a_root = (np.asarray(np.linalg.qr(factor, "r")) for factor in (b, a.T))
            values = np.linalg.svd(b_root @ a_root.T, compute_uv=False)
            right = np.linalg.svd(a, full_matrices=False)[2]
            found[match["key"]] = Spectrum((len(b), a.shape[1]), values, right)
    return {key: spectrum for key, spectrum in found.items() if spectrum.values.any()}


def _read(run: Run, name: str) -> tuple[Mapping[str, np.ndarray], Mapping[str, str]]:
    """Tensors and metadata of a .safetensors file in the run's folder; empty where there is none."""
    from safetensors import SafetensorError, safe_open

    file = inside(run.folder, name)
    if file is None or not file.is_file():
        return {}, {}
    try:
        with safe_open(str(file), "np") as content:
            return {key: content.get_tensor(key) for key in content.keys()}, content.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise ReportError(f"'{file}' cannot be read ({first_line(error)}); run it again") from None
