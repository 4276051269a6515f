"""`reports ship` and `figures`: the records that a repository ships, and the figures drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.commands.arguments import Folder, report_files


@dataclass(frozen=True)
class ShipOptions:
    """Write the records of runs as small archives.

    One compressed file per task, without weights, samples and checkpoints. Every command reads a folder of such files
    as it reads a folder of runs.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    output: Folder = Path("reports/records")
    """Folder for the archives."""
    tasks: tuple[str, ...] = ()
    """Only these tasks. Default: all."""
    items: bool = False
    """With items.parquet too: one row per evaluated item, for `reports compare` and the page's texts."""


def ship(options: ShipOptions) -> None:
    from reports.records import collect
    from reports.shipping.archive import write_archives

    collection = collect(options.runs)
    tasks = collection.chosen_tasks(options.tasks)
    report_files(write_archives(collection.folder, tasks, options.output, options.items), options.output)


@dataclass(frozen=True)
class FiguresOptions:
    """Draw the README's figures from the records that the repository ships.

    RECORDS/figures.json names them. The same records give the same bytes.
    """

    records: Folder = Path("reports/records")
    """Folder of the records, with figures.json."""
    output: Folder = Path("reports/figures")
    """Folder for the figures."""


def figures(options: FiguresOptions) -> None:
    from reports.shipping.readme_figures import draw_figures

    report_files(draw_figures(options.records, options.output), options.output)
