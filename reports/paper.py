"""Published numbers next to ours, from the record that `python -m experiments.paper` writes to the runs folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from reports.errors import ReportError
from reports.records import first_line, load_record
from reports.schema import check_schema
from reports.upgrade import SCHEMA

RECORD = "paper.json"


class CountRecord(msgspec.Struct, frozen=True):
    where: str
    what: str
    by_formula: int
    ours: int
    verdict: str
    printed: str | None = None


class ClaimRecord(msgspec.Struct, frozen=True):
    source: str
    claim: str
    ours: str
    how: str
    verdict: str
    left_out: str = ""  # runs that were not compared


class PaperRecord(msgspec.Struct, frozen=True):
    """The parts of `paper.json` that are shown."""

    counts: list[CountRecord]
    claims: list[ClaimRecord]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        check_schema(self.schema)


def read_paper(runs: Path) -> PaperRecord:
    """Read the record in `runs`. Raises ReportError if it is missing or invalid."""
    try:
        return load_record(runs / RECORD, PaperRecord)
    except FileNotFoundError:
        raise ReportError(
            f"'{runs / RECORD}' is missing: create it with `python -m experiments.paper --runs {runs}`"
        ) from None
    except (OSError, ValueError) as error:
        raise ReportError(f"'{runs / RECORD}' is not a record of experiments.paper: {first_line(error)}") from None


def render(paper: PaperRecord, style: str) -> str:
    """Two tables (parameter counts and claims) in one of tabulate's styles."""
    from tabulate import tabulate

    counts = [(c.where, c.what, c.printed or "", f"{c.by_formula:,}", f"{c.ours:,}", c.verdict) for c in paper.counts]
    titles = ["published in", "what", "printed", "by its formula", "ours", "verdict"]
    aligned = ("left", "left", "right", "right", "right", "left")
    claims = [(c.source, c.claim, f"{c.ours} ({c.how})", c.verdict) for c in paper.claims]
    left_out = [f"Left out of '{claim.claim}': {claim.left_out}." for claim in paper.claims if claim.left_out]
    return "\n\n".join(
        [
            tabulate(counts, titles, tablefmt=style, disable_numparse=True, colalign=aligned),
            tabulate(claims, ["who", "claim", "ours", "verdict"], tablefmt=style, disable_numparse=True),
            *left_out,
        ]
    )
