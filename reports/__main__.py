"""`python -m reports COMMAND`: tables, comparisons, plots and the page, made from run records alone.

Each command's options are a dataclass in `reports/commands`, parsed by the core that the commands of `experiments` use.
The commands import what they need when they run, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from experiments.cli.errors import command
from experiments.cli.parser import parse_command
from reports.commands.compare import CompareOptions, compare
from reports.commands.costs import CostsOptions, costs
from reports.commands.import_peft import ImportPeftOptions, import_peft
from reports.commands.page import PageOptions, page
from reports.commands.paper import PaperOptions, paper
from reports.commands.plots import PlotsOptions, plots
from reports.commands.rates import RatesOptions, rates
from reports.commands.run_list import ListOptions, list_runs
from reports.commands.shipping import FiguresOptions, ShipOptions, figures, ship
from reports.commands.spectra import SpectraOptions, spectra
from reports.commands.sweeps import EffectsOptions, GridOptions, PeakOptions, ScoreOptions, effects, grid, peak, score
from reports.commands.table import TableOptions, table
from reports.errors import ReportError

PROGRAM = "python -m reports"
DESCRIPTION = "Tables, comparisons, plots and a page, made from run records alone."

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


if __name__ == "__main__":
    command(main, ReportError)
