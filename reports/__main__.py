"""`python -m reports COMMAND`: tables, comparisons, plots and the page, made from run records alone.

Each command's options are a dataclass, parsed by the core that the commands of `experiments` use. The commands import
what they need when they run, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.cli.errors import command
from experiments.cli.parser import parse_command
from reports.errors import ReportError

PROGRAM = "python -m reports"
DESCRIPTION = "Tables, comparisons, plots and a page, made from run records alone."
Format = Literal["terminal", "md", "csv", "latex"]
Task = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class TableOptions:
    """Compare methods and sizes on one task, with intervals over seeds."""

    task: Task
    """The task whose runs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Order by a size field (such as rank), a metric, a cost, or "method". Default: the primary metric, best first."""
    against: Annotated[str | None, tyro.conf.arg(metavar="METHOD[:SIZE]")] = None
    """Compare with this method. Default: the one that trains all weights, or else the best."""
    format: Format = "terminal"
    """Output format; csv has all numbers, unrounded."""


def table(options: TableOptions) -> None:
    from reports.records import collect
    from reports.tables import build
    from reports.text.table import render

    collection = collect(options.runs)
    built = build(collection, options.task, options.by, options.against)
    print(render(built, collection.of_task(options.task), options.format), end="")


@dataclass(frozen=True)
class CostsOptions:
    """Show what each method costs on one task.

    Memory, bytes, operations, time, latency, switching between adapters; see `python -m experiments.costs`.
    """

    task: Task
    """The task whose costs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs and cost records."""
    format: Format = "terminal"
    """Output format; csv has all numbers, unrounded."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also draw the costs there, as SVG and PNG."""


def costs(options: CostsOptions) -> None:
    from reports.costs.table import build_cost_table
    from reports.text.costs import render

    built = build_cost_table(options.runs, options.task)
    print(render(built, options.format), end="")
    if options.output is not None:
        from reports.plots.draw import draw_costs

        _report_files(draw_costs(built, options.output), options.output)


@dataclass(frozen=True)
class CompareOptions:
    """Compare two runs: their methods over seeds, and the two trained models item by item.

    Both must be runs of one task; the models are compared on the items that both were evaluated on.
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_A")]
    """Folder of a run, RUNS/TASK/METHOD/FINGERPRINT."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_B")]
    """Folder of another run."""


def compare(options: CompareOptions) -> None:
    from reports.comparison import compare
    from reports.text.comparison import render

    print(render(compare(options.first, options.second)))


@dataclass(frozen=True)
class SpectraOptions:
    """Show the spectra of a run, or the similarity of two.

    Effective rank and amplification of one run's update, or the similarity of the subspaces of two runs' updates.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN]")]
    """Folder of one run, or folders of two."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also draw the spectra there, as SVG and PNG."""


def spectra(options: SpectraOptions) -> None:
    from reports.records import read_run
    from reports.spectra import similarity_report, spectra_report

    if len(options.folders) not in (1, 2):
        raise ReportError(f"expected the folders of one or two runs, not {len(options.folders)}")
    runs = [read_run(folder) for folder in options.folders]
    print(spectra_report(*runs) if len(runs) == 1 else similarity_report(*runs))
    if options.output is not None:
        from reports.plots.spectra import draw_spectra

        _report_files(draw_spectra(runs, options.output), options.output)


@dataclass(frozen=True)
class PlotsOptions:
    """Draw all plots, as SVG and PNG.

    Quality over size and over cost, loss curves, intrinsic dimensions, costs and sample grids of every task.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    output: Folder = Path("plots")
    """Folder for the plots."""


def plots(options: PlotsOptions) -> None:
    from reports.plots.draw import draw
    from reports.records import collect

    _report_files(draw(collect(options.runs), options.output), options.output)


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

        _report_files(draw_rates(searches, options.output), options.output)


@dataclass(frozen=True)
class PageOptions:
    """Write a static HTML page.

    It is one file with charts, tables and pictures, and loads nothing from the network.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    output: Folder = Path("page")
    """Folder for index.html."""


def page(options: PageOptions) -> None:
    from reports.page.html import write_page
    from reports.records import collect

    print(write_page(collect(options.runs), options.output))


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


@dataclass(frozen=True)
class ImportPeftOptions:
    """Import PEFT's published comparison as runs.

    Every record of github.com/huggingface/peft, method_comparison, becomes a run folder marked by its source.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder that contains PEFT's .json files, at any depth."""
    runs: Folder = Path("runs")
    """Folder in which the runs are written."""


def import_peft(options: ImportPeftOptions) -> None:
    from reports.peft_records import import_records

    written, problems = import_records(options.folder, options.runs)
    for file, reason in problems:
        print(f"{file}: {reason}", file=sys.stderr)
    print(f"imported {len(written)} records into {options.runs}; {len(problems)} problems")


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "table": (TableOptions, table),
    "page": (PageOptions, page),
    "plots": (PlotsOptions, plots),
    "compare": (CompareOptions, compare),
    "costs": (CostsOptions, costs),
    "spectra": (SpectraOptions, spectra),
    "rates": (RatesOptions, rates),
    "paper": (PaperOptions, paper),
    "import-peft": (ImportPeftOptions, import_peft),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Raises ReportError, and SystemExit for `--help` and for a wrong command line."""
    words = sys.argv[1:] if arguments is None else arguments
    options_of = {name: options for name, (options, _) in COMMANDS.items()}
    name, options = parse_command(options_of, words, PROGRAM, DESCRIPTION)
    COMMANDS[name][1](options)


def _report_files(files: Iterable[Path], folder: Path) -> None:
    """Print each file when it is written: drawing many plots takes a minute."""
    count = 0
    for file in files:
        count += 1
        print(file, flush=True)
    if not count:
        raise ReportError("nothing to draw: no finished run has enough data; see `python -m reports table TASK`")
    print(f"{count} files in {folder}")


if __name__ == "__main__":
    command(main, ReportError)
