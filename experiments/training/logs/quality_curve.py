"""Quality along training: a part of the evaluation every few steps, in `curve.jsonl` beside the step log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.records.folder import write_bytes
from tasks import distributed

FILE = "curve.jsonl"
SHOWN = ("value", "n", "low", "high", "base", "extractor")  # of a figure; unit and meaning are in the record


@dataclass
class QualityCurve:
    """One line per evaluation: its step, its seconds, and every figure with its n; step 0 is the untuned base.

    `measure` evaluates the model in its current state, in every process; it returns figures as a record has them.
    """

    folder: Path
    every: int  # optimizer steps
    base: Mapping[str, Any]  # the untuned base's figures
    measure: Callable[[], Mapping[str, Any]]

    @property
    def file(self) -> Path:
        return self.folder / FILE

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def start(self, step: int) -> None:
        """Begin, or go on from a checkpoint at `step`: what was measured after it is measured again."""
        before = [line for line in self.lines() if 0 < line["step"] <= step]
        self._write([_line(0, 0.0, self.base), *before])

    def add(self, step: int) -> float:
        """Evaluate after optimizer step `step`; returns the seconds that it took."""
        started = time.perf_counter()
        figures = self.measure()
        seconds = time.perf_counter() - started
        self._write([*self.lines(), _line(step, seconds, figures)])
        return seconds

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if distributed.is_main():
            write_bytes(self.file, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _line(step: int, seconds: float, figures: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: {k: figure.get(k) for k in SHOWN if figure.get(k) is not None} for name, figure in figures.items()}
    return {"step": step, "seconds": round(seconds, 2), "metrics": metrics}


def best_steps(
    steps: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]], metric: str, better: str
) -> dict[str, dict[str, Any]]:
    """The step with the lowest validation loss, and the step with the best `metric`; the earlier of equal ones.

    `steps` are lines of the step log, `curve` those of a quality curve, whose untuned base does not count. `better` is
    "higher" or "lower".
    """
    losses = [
        {"step": line["step"], "value": line["validation_loss"]}
        for line in steps
        if math.isfinite(line.get("validation_loss", math.nan))
    ]
    figures = [
        {"step": line["step"], **{k: line["metrics"][metric].get(k) for k in ("value", "n")}}
        for line in curve
        if line["step"] > 0 and metric in line["metrics"]
    ]
    best = {"validation_loss": min(losses, key=lambda loss: loss["value"])} if losses else {}
    if figures:
        sign = -1 if better == "higher" else 1
        best.setdefault(metric, min(figures, key=lambda figure: sign * figure["value"]))
    return best
