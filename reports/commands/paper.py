"""`reports paper`: published numbers next to ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reports.commands.arguments import Folder


@dataclass(frozen=True)
class PaperOptions:
    """Show published numbers next to ours.

    Parameter counts and claims of papers; `python -m experiments.paper` computes ours.
    """

    runs: Folder = Path("runs")
    """Folder of the runs, which holds paper.json."""
    format: Literal["terminal", "md"] = "terminal"
    """Output format."""


def paper(options: PaperOptions) -> None:
    from reports.paper import read_paper, render

    print(render(read_paper(options.runs), {"terminal": "simple", "md": "github"}[options.format]))
