"""Compare published numbers with ours: `python -m experiments.paper`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.cli.errors import command
from experiments.cli.parser import parse_options

PUBLISHED = Path(__file__).parent / "papers" / "published.json"
RECORD = "paper.json"


@dataclass(frozen=True)
class PaperOptions:
    """Compare the numbers of the LoRA paper and of diffusers' guides with ours; writes RUNS/paper.json.

    Parameter counts come from this project's adapters on models of the published sizes, without weights. The claims'
    figures are counted, predicted, or read from the records below --runs.
    """

    runs: Path = Path("runs")
    """Folder of the run records."""


def main() -> None:
    options = parse_options(PaperOptions, sys.argv[1:], "python -m experiments.paper")
    print("counting parameters, then predicting memory and FLOPs (some minutes)", file=sys.stderr)
    data = json.loads(PUBLISHED.read_text())
    counts = compare_counts(data)
    print(counts_text(counts), end="\n\n", flush=True)
    peaks = compare_peaks()
    print(peaks_text(peaks), end="\n\n", flush=True)
    claims = check_claims(data, options.runs)
    print(claims_text(claims), end="\n\n")
    file = write(data, {"counts": counts, "peaks": peaks, "claims": claims}, options.runs)
    print(f"{file}; `python -m reports paper --runs {options.runs}` shows it")


def compare_counts(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Every published parameter count and file size beside ours, with a verdict."""
    from experiments.papers.parameter_counts import compare_file_size, compare_parameter_count

    bases = data["bases"]
    parameters = [compare_parameter_count(row, bases) for row in data["counts"]]
    return [*parameters, *(compare_file_size(row, bases) for row in data["files"])]


def check_claims(data: dict[str, Any], runs: Path) -> list[dict[str, str]]:
    """Every published claim beside our figure, with a verdict."""
    from experiments.papers.claims import Claims

    return [claim.as_record() for claim in Claims(data, runs).all()]


def compare_peaks() -> list[dict[str, Any]]:
    """Every published peak of memory beside our prediction."""
    from experiments.papers import published_peaks

    return published_peaks.compare_peaks(lambda text: print(text, file=sys.stderr, flush=True))


def peaks_text(peaks: Sequence[dict[str, Any]]) -> str:
    from experiments.papers import published_peaks

    return published_peaks.peaks_text(peaks)


def counts_text(counts: Sequence[dict[str, Any]]) -> str:
    """The counts as a table, with the rows' notes below it."""
    from tabulate import tabulate

    rows = [
        (row["where"], row["what"], row["printed"] or "", f"{row['by_formula']:,}", f"{row['ours']:,}", row["verdict"])
        for row in counts
    ]
    headers = ["published in", "what", "printed", "by its formula", "ours", "verdict"]
    alignment = ("left", "left", "right", "right", "right", "left")
    notes = [f"{row['where']}, {row['what']}: {row['note']}" for row in counts if row["note"]]
    return "\n".join([tabulate(rows, headers, disable_numparse=True, colalign=alignment), *notes])


def claims_text(claims: Sequence[dict[str, str]]) -> str:
    return "\n".join(
        f"{claim['source']}: {claim['claim']}\n  ours ({claim['how']}): {claim['ours']}\n"
        f"  verdict: {claim['verdict']}\n  {claim['command']}"
        + (f"\n  left out: {claim['left_out']}" if claim["left_out"] else "")
        for claim in claims
    )


def write(data: dict[str, Any], results: dict[str, Any], runs: Path) -> Path:
    """Write the result and the environment to `runs`; returns the file."""
    from experiments.records.folder import write_json
    from experiments.records.provenance import provenance

    runs.mkdir(parents=True, exist_ok=True)
    sources = {"source": data["source"], "bases_note": data["bases_note"]}
    result = {"source": "paper", **sources, **results}
    write_json(runs / RECORD, result | provenance("meta"))
    return runs / RECORD


if __name__ == "__main__":
    command(main)
