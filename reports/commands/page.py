"""`reports page`: one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.commands.arguments import Folder


@dataclass(frozen=True)
class PageOptions:
    """Write a static HTML page.

    It is one file with charts, tables and pictures, and loads nothing from the network.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    output: Folder = Path("page")
    """Folder for index.html."""
    tasks: tuple[str, ...] = ()
    """Only these tasks; the file holds nothing of the others. Default: all."""


def page(options: PageOptions) -> None:
    from reports.page.html import write_page
    from reports.records import collect

    print(write_page(collect(options.runs), options.output, options.tasks))
