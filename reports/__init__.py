"""Tables, comparisons, plots and the page, made from run records alone.

In a notebook: `frame("runs")` has one row per run, `table("runs", TASK)` one row per method and size, over seeds;
`plot("rank", "runs", TASK)` is a matplotlib figure. Nothing
is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.dataframes import frame, table
    from reports.errors import ReportError
    from reports.plots.notebook import plot
    from reports.records import Collection, Run, collect, read_run

_MODULES = {
    "Collection": "records",
    "ReportError": "errors",
    "Run": "records",
    "collect": "records",
    "frame": "dataframes",
    "plot": "plots.notebook",
    "read_run": "records",
    "table": "dataframes",
}
__all__ = ["Collection", "ReportError", "Run", "collect", "frame", "plot", "read_run", "table"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'reports' has no attribute '{name}'; it has {', '.join(sorted(_MODULES))}")
    return getattr(importlib.import_module(f"reports.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
