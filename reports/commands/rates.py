"""`reports rates`: searches of learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports.commands.arguments import report_files


@dataclass(frozen=True)
class RatesOptions:
    """Show searches of learning rates.

    The rate that each method takes at each size, with the losses beside it; a heat map over rate and size, and curves.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")] = (Path("runs"),)
    """Folders of runs, and files with searches such as tasks/bundled/gpt-mini/learning_rates.json."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also draw heat maps and curves there, as SVG and PNG."""


def rates(options: RatesOptions) -> None:
    from reports.rates import read_searches, render

    searches = read_searches(options.paths)
    print(render(searches))
    if options.output is not None:
        from reports.plots.rates import draw_rates

        report_files(draw_rates(searches, options.output), options.output)
