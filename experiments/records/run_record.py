"""A run's record in Python: its folder and the contents of `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError, did_you_mean
from tasks.base import Figure

if TYPE_CHECKING:
    from experiments.records.load_run import LoadedRun


@dataclass(frozen=True)
class RunRecord:
    """The record of one run. A figure's value is also an attribute: `record.kid` is `record.figure("kid").value`."""

    folder: Path
    data: Mapping[str, Any]  # `result.json`

    @property
    def status(self) -> str:
        """Either "finished" or "failed"."""
        return self.data["status"]

    @property
    def reason(self) -> str | None:
        """Why the run failed, in one sentence; None for a finished run."""
        return self.data["reason"]

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by name; empty for a failed run."""
        known = {f.name for f in fields(Figure)}
        return {
            name: Figure(**{k: v for k, v in value.items() if k in known})
            for name, value in self.data.get("metrics", {}).items()
        }

    def figure(self, name: str) -> Figure:
        """The figure with its interval, base, floor and extractor. Raises UsageError that lists the valid names."""
        figures = self.figures
        if name not in figures:
            if self.status == "failed":
                raise UsageError(f"there is no figure '{name}', because the run failed: {self.reason}")
            names = ", ".join(sorted(figures))
            raise UsageError(f"the record has no figure '{name}'{did_you_mean(name, figures)}; its figures are {names}")
        return figures[name]

    def load(self) -> LoadedRun:
        """The trained model, on its base, without its dataset: see `experiments.load_run`."""
        from experiments.records.load_run import load_run

        return load_run(self.folder)

    def __getattr__(self, name: str) -> float:
        figures = {} if name.startswith("_") else self.figures
        if name in figures:
            return figures[name].value
        raise AttributeError(f"the record has no figure or attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self.figures])

    def __repr__(self) -> str:
        run = f"{self.data['method']} on {self.data['task']}, {self.status}"
        if self.status == "failed":
            return f"RunRecord({run}: {self.reason}; {self.folder})"
        name = self.data["primary_metric"]
        figure = self.figure(name)
        measured = f"{name} {figure.value:.4g} {figure.unit} (n={figure.n}, {figure.extractor})"
        return f"RunRecord({run}: {measured}; {self.folder})"
