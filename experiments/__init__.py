"""Train adapters, measure them and keep the records: `from experiments import run, sweep`.

Names are imported on first use, so that importing this package imports no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.config import RunConfig, Train
    from experiments.errors import UsageError
    from experiments.records.load_run import LoadedRun, load_run
    from experiments.records.run_record import RunRecord
    from experiments.session import run
    from experiments.sweeping.runner import sweep
    from experiments.training.callbacks import Callback

_MODULE_OF = {
    "Callback": "experiments.training.callbacks",
    "LoadedRun": "experiments.records.load_run",
    "RunConfig": "experiments.config",
    "RunRecord": "experiments.records.run_record",
    "Train": "experiments.config",
    "UsageError": "experiments.errors",
    "load_run": "experiments.records.load_run",
    "run": "experiments.session",
    "sweep": "experiments.sweeping.runner",
}
__all__ = ["Callback", "LoadedRun", "RunConfig", "RunRecord", "Train", "UsageError", "load_run", "run", "sweep"]


class _Package(ModuleType):
    """`run` and `sweep` are functions of this package and also modules in it, the commands.

    Importing the submodule `experiments.run` makes Python set this package's attribute `run` to it, which would hide
    the function from then on. Those two assignments are ignored; the modules stay in `sys.modules`, so that
    `import experiments.run` and `from experiments.run import RunOptions` work.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MODULE_OF and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'experiments' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
