"""`python -m reports COMMAND`: everything that people look at, made from run records alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reports.errors import ReportError


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        options.command(options)
    except ReportError as error:
        print(f"python -m reports: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    return 0


def parser() -> argparse.ArgumentParser:
    """Commands import what they need when they run, so that --help answers at once."""
    top = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_table, _costs, _compare, _spectra, _plots, _page, _paper, _import_peft):
        add(commands)
    return top


def _command(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="the run folders (default: runs)"
    )
    command.set_defaults(command=run)
    return command


def _table(commands) -> None:
    command = _command(commands, "table", table, "methods and sizes of one task, with intervals over seeds")
    command.add_argument("task", metavar="TASK")
    command.add_argument("--by", metavar="COLUMN", help="order by a size field (rank), a metric, a cost or 'method'")
    command.add_argument("--against", metavar="METHOD[:SIZE]", help="hold differences against this arm, not the best")
    command.add_argument("--format", choices=["terminal", "md", "csv", "latex"], default="terminal")


def table(options: argparse.Namespace) -> None:
    from reports.records import collect
    from reports.table_text import render
    from reports.tables import build

    collection = collect(options.runs)
    built = build(collection, options.task, options.by, options.against)
    print(render(built, collection.of_task(options.task), options.format), end="")


def _costs(commands) -> None:
    text = "what each method costs on one task: memory, bytes, operations, time, latency, switching"
    command = _command(commands, "costs", costs, text)
    command.add_argument("task", metavar="TASK")
    command.add_argument("--format", choices=["terminal", "md", "csv", "latex"], default="terminal")
    command.add_argument("--out", type=Path, metavar="DIR", help="also draw it there, as SVG and PNG")


def costs(options: argparse.Namespace) -> None:
    from reports.cost_table import render
    from reports.costs import build

    built = build(options.runs, options.task)
    print(render(built, options.format), end="")
    if options.out is not None:
        from reports.plots.draw import draw_costs

        _wrote(draw_costs(built, options.out), options.out)


def _compare(commands) -> None:
    text = "two runs of one task, paired on the items that both were evaluated on"
    command = commands.add_parser("compare", help=text, description=text)
    command.add_argument("first", type=Path, metavar="RUN_A", help="a run's folder, RUNS/TASK/METHOD/FINGERPRINT")
    command.add_argument("second", type=Path, metavar="RUN_B")
    command.set_defaults(command=compare)


def compare(options: argparse.Namespace) -> None:
    from reports.comparison import compare

    print(compare(options.first, options.second))


def _spectra(commands) -> None:
    text = "effective rank and amplification of one run's update, or how alike the directions of two runs' updates are"
    command = commands.add_parser("spectra", help=text, description=text)
    command.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="one run's folder, or two")
    command.add_argument("--out", type=Path, metavar="DIR", help="also draw it there, as SVG and PNG")
    command.set_defaults(command=spectra)


def spectra(options: argparse.Namespace) -> None:
    from reports.plots.spectra import report

    if len(options.folders) > 2:
        raise ReportError(f"expected one run or two, not {len(options.folders)}")
    print(report(options.folders, options.out))


def _plots(commands) -> None:
    command = _command(commands, "plots", plots, "quality over size and cost, loss curves, sample grids: SVG and PNG")
    command.add_argument(
        "--out", type=Path, default=Path("plots"), metavar="DIR", help="where to write (default: plots)"
    )


def plots(options: argparse.Namespace) -> None:
    from reports.records import collect

    collection = collect(options.runs)
    from reports.plots.draw import draw

    _wrote(draw(collection, options.out), options.out)


def _wrote(files: list[Path], out: Path) -> None:
    if not files:
        raise ReportError("nothing could be drawn: expected at least one finished run; see `python -m reports table`")
    print(f"{len(files)} files in {out}")


def _paper(commands) -> None:
    command = _command(commands, "paper", paper, "published counts and claims beside ours (see experiments.paper)")
    command.add_argument("--format", choices=["terminal", "md"], default="terminal")


def paper(options: argparse.Namespace) -> None:
    from reports.paper import read, render

    print(render(read(options.runs), {"terminal": "simple", "md": "github"}[options.format]))


def _import_peft(commands) -> None:
    text = "PEFT's published records (method_comparison) as run folders, marked by source"
    command = _command(commands, "import-peft", import_peft, text)
    command.add_argument("folder", type=Path, metavar="DIR", help="the folder with their .json files, at any depth")


def import_peft(options: argparse.Namespace) -> None:
    from reports.peft_records import import_records

    written, refused = import_records(options.folder, options.runs)
    for file, why in refused:
        print(f"{file}: {why}", file=sys.stderr)
    print(f"{len(written)} records imported into {options.runs}, {len(refused)} complaints")


def _page(commands) -> None:
    command = _command(
        commands, "page", page, "one static HTML file with charts, table and gallery; it needs no network"
    )
    command.add_argument("--out", type=Path, default=Path("page"), metavar="DIR", help="where to write (default: page)")


def page(options: argparse.Namespace) -> None:
    from reports.records import collect

    collection = collect(options.runs)
    from reports.page import write_page

    print(write_page(collection, options.out))


if __name__ == "__main__":
    sys.exit(main())
