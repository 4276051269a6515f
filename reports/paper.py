"""Published numbers beside ours, from the record that `python -m experiments.paper` leaves below the runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from reports.errors import ReportError
from reports.records import first_line, load_json

RECORD = "paper.json"


class Count(msgspec.Struct, frozen=True):
    where: str
    what: str
    by_formula: int
    ours: int
    verdict: str
    printed: str | None = None


class Claim(msgspec.Struct, frozen=True):
    source: str
    claim: str
    ours: str
    how: str
    verdict: str


class Paper(msgspec.Struct, frozen=True):
    """What is shown of the record."""

    counts: list[Count]
    claims: list[Claim]


def read(runs: Path) -> Paper:
    """Raises ReportError where the record is missing or is none."""
    try:
        return msgspec.convert(load_json(runs / RECORD), Paper)
    except FileNotFoundError:
        raise ReportError(
            f"'{runs / RECORD}' is missing: make it with `python -m experiments.paper --runs {runs}`"
        ) from None
    except (OSError, ValueError) as error:
        raise ReportError(f"'{runs / RECORD}' is no such record: {first_line(error)}") from None


def render(paper: Paper, style: str) -> str:
    """Two tables, in a style of tabulate."""
    from tabulate import tabulate

    counts = [(c.where, c.what, c.printed or "", f"{c.by_formula:,}", f"{c.ours:,}", c.verdict) for c in paper.counts]
    heads = ["published in", "what", "printed", "by its formula", "ours", "verdict"]
    aligned = ("left", "left", "right", "right", "right", "left")
    claims = [(c.source, c.claim, f"{c.ours} ({c.how})", c.verdict) for c in paper.claims]
    return "\n\n".join(
        [
            tabulate(counts, heads, tablefmt=style, disable_numparse=True, colalign=aligned),
            tabulate(claims, ["who", "claim", "ours", "verdict"], tablefmt=style, disable_numparse=True),
        ]
    )
