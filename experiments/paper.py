"""Published numbers beside ours: `python -m experiments.paper`.

Parameter counts come from the project's own adapters on models of the published sizes without weights; the claims'
figures are counted, predicted, or read from the run records below --runs. The result is kept as RUNS/paper.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiments.cli.errors import command

PUBLISHED = Path(__file__).parent / "papers" / "published.json"
RECORD = "paper.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.paper", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run records (default: runs)")
    arguments = parser.parse_args()
    print(f"{write(result(arguments.runs), arguments.runs)}; python -m reports paper --runs {arguments.runs} shows it")


def result(runs: Path) -> dict[str, Any]:
    """All rows and claims; each part is printed when it is had."""
    from experiments.papers.claims import Claims
    from experiments.papers.parameter_counts import count, file_bytes

    data = json.loads(PUBLISHED.read_text())
    bases = data["bases"]
    counts = [count(row, bases) for row in data["counts"]] + [file_bytes(row, bases) for row in data["files"]]
    print(counts_table(counts), end="\n\n", flush=True)
    claims = [claim.as_record() for claim in Claims(data, runs).all()]
    print(claims_text(claims), end="\n\n")
    return {"source": data["source"], "bases_note": data["bases_note"], "counts": counts, "claims": claims}


def counts_table(counts: list[dict[str, Any]]) -> str:
    from tabulate import tabulate

    rows = [
        (row["where"], row["what"], row["printed"] or "", f"{row['by_formula']:,}", f"{row['ours']:,}", row["verdict"])
        for row in counts
    ]
    heads = ["published in", "what", "printed", "by its formula", "ours", "verdict"]
    aligned = ("left", "left", "right", "right", "right", "left")
    notes = [f"{row['where']}, {row['what']}: {row['note']}" for row in counts if row["note"]]
    return "\n".join([tabulate(rows, heads, disable_numparse=True, colalign=aligned), *notes])


def claims_text(claims: list[dict[str, str]]) -> str:
    return "\n".join(
        f"{claim['source']}: {claim['claim']}\n  ours ({claim['how']}): {claim['ours']}\n"
        f"  verdict: {claim['verdict']}\n  {claim['command']}"
        for claim in claims
    )


def write(found: dict[str, Any], runs: Path) -> Path:
    """Keep the result below the runs, with the environment that it was had in; the file."""
    from experiments.records.folder import environment, write_json
    from reports.upgrade import SCHEMA

    runs.mkdir(parents=True, exist_ok=True)
    write_json(runs / RECORD, {"schema": SCHEMA, "source": "paper"} | found | environment("meta"))
    return runs / RECORD


if __name__ == "__main__":
    command(main)
