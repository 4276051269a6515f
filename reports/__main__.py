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
    metrics: tuple[str, ...] = ()
    """Show these metrics, in this order; the first one carries the comparison. Default: all, the primary one first."""
    format: Format = "terminal"
    """Output format; csv has all numbers, unrounded."""


def table(options: TableOptions) -> None:
    from reports.records import collect
    from reports.tables import build
    from reports.text.table import render

    collection = collect(options.runs)
    built = build(collection, options.task, options.by, options.against, options.metrics)
    print(render(built, collection.of_task(options.task), options.format), end="")


@dataclass(frozen=True)
class ListOptions:
    """List runs under short names.

    One line per run: its name (METHOD-SIZE-sSEED, with the start of its fingerprint where two runs share that), status,
    primary metric and folder, which the other commands take.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""


def list_runs(options: ListOptions) -> None:
    from reports.records import collect
    from reports.text.run_list import render

    print(render(collect(options.runs), options.tasks))


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

    Of every task: quality over size, cost and drift; heat maps and curves over settings, and their main effects; loss
    curves; spectra by layer; intrinsic dimensions, costs and sample grids.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    output: Folder = Path("plots")
    """Folder for the plots."""
    only: tuple[str, ...] = ()
    """Only these kinds. Default: all that the runs are enough for.
    rank: quality over size. pareto: over costs, or over --against. forgetting: over drift. heatmap: over the two
    settings of --over. u-curve: over one setting, a line per size. effects: main effects of the settings. score: PSCP.
    loss. held-out: loss over log steps, by size. energy: rank of 90 % of the update's energy by layer and type.
    intruders: intruder dimensions by layer and type. intruder-scales: quality and drift with them scaled. intrinsic.
    costs. samples."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    metrics: tuple[str, ...] = ()
    """Only these metrics. Default: all."""
    over: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING")] = ()
    """Settings on the axes of heatmap (columns, rows) and u-curve (the first), by their dotted names or last parts
    (train.learning_rate, rank). Default: the learning rate and the size."""
    against: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The metric or cost on the horizontal axis of pareto. Default: four costs."""


def plots(options: PlotsOptions) -> None:
    from reports.plots.draw import View, draw
    from reports.records import collect

    view = View(options.metrics, options.over, options.against)
    files = draw(collect(options.runs), options.output, options.only, options.tasks, view)
    _report_files(files, options.output)


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
class PeakOptions:
    """Show where a metric is best over one setting.

    For each method and size: the best mean over seeds, the setting's value there and the means beside it. With
    --over task.pairs --metric bits_per_parameter the runs of `facts` give the capacity of each adapter.
    """

    task: Task
    """The task whose runs are shown."""
    over: Annotated[str, tyro.conf.arg(metavar="SETTING")]
    """The setting, by its dotted name (task.pairs, train.steps, train.learning_rate, ...)."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The metric. Default: the task's primary one."""
    format: Literal["terminal", "md"] = "terminal"
    """Output format."""


def peak(options: PeakOptions) -> None:
    from reports.peaks import render
    from reports.records import collect
    from reports.tables import build

    table = build(collect(options.runs), options.task, chosen=[options.metric] if options.metric else ())
    style = {"terminal": "simple", "md": "github"}[options.format]
    print(render(table, options.over, table.metrics[0], style))


@dataclass(frozen=True)
class GridOptions:
    """Show a metric over two settings.

    One table for each method and its other settings, the best cell in asterisks; `plots --only heatmap` draws them.
    """

    task: Task
    """The task whose runs are shown."""
    over: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING")] = ()
    """The settings of the columns and of the rows. Default: the learning rate and the size."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The metric. Default: the task's primary one."""
    format: Literal["terminal", "md", "latex"] = "terminal"
    """Output format."""


def grid(options: GridOptions) -> None:
    from reports.sweeps.grid import render_grids

    print(render_grids(_table_of(options), options.over, options.format), end="")


@dataclass(frozen=True)
class EffectsOptions:
    """Show the main effects of a sweep's settings on a metric.

    An additive linear model per method: each setting's share of the variance, its F test, and the mean at each value.
    """

    task: Task
    """The task whose runs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The metric. Default: the task's primary one."""
    format: Literal["terminal", "md", "latex"] = "terminal"
    """Output format."""


def effects(options: EffectsOptions) -> None:
    from reports.sweeps.main_effects import render_effects

    print(render_effects(_table_of(options), options.format), end="")


@dataclass(frozen=True)
class ScoreOptions:
    """Show one score from quality and costs: PSCP.

    PSCP = P (1 + M_p / C_p)^-b_p (1 + M_f / C_f)^-b_f (1 + M_m / C_m)^-b_m (Belanec et al. 2025, arXiv 2511.21285).
    """

    task: Task
    """The task whose runs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The performance P, of which more is better. Default: the task's primary metric."""
    scales: tuple[float, float, float] = (5e8, 10e12, 94e9)
    """C of trained parameters, operations added to inference, and bytes of memory. Default: PEFT-Factory's."""
    exponents: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """b of the same three."""
    format: Literal["terminal", "md", "latex"] = "terminal"
    """Output format."""


def score(options: ScoreOptions) -> None:
    from reports.sweeps.pscp import Penalties, render_scores

    print(render_scores(_table_of(options), Penalties(options.scales, options.exponents), options.format), end="")


def _table_of(options: GridOptions | EffectsOptions | ScoreOptions) -> Any:
    from reports.records import collect
    from reports.tables import build

    return build(collect(options.runs), options.task, chosen=[options.metric] if options.metric else ())


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
    _report_files(write_archives(collection.folder, tasks, options.output, options.items), options.output)


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

    _report_files(draw_figures(options.records, options.output), options.output)


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
    "list": (ListOptions, list_runs),
    "compare": (CompareOptions, compare),
    "costs": (CostsOptions, costs),
    "spectra": (SpectraOptions, spectra),
    "rates": (RatesOptions, rates),
    "peak": (PeakOptions, peak),
    "grid": (GridOptions, grid),
    "effects": (EffectsOptions, effects),
    "score": (ScoreOptions, score),
    "ship": (ShipOptions, ship),
    "figures": (FiguresOptions, figures),
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
