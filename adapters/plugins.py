"""Methods and tasks of other installed packages, through entry points."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from adapters.errors import first_line


def load_plugins(group: str, kind: str, registry: dict[str, Any]) -> None:
    """Import what the entry points of the group name; its classes add themselves to the registry.

    `kind` is "method" or "task". One that cannot be imported is named and left out: the others still work.
    """
    for entry_point in entry_points(group=group):
        known = set(registry)
        try:
            entry_point.load()
        except (Exception, SystemExit) as error:
            for name in set(registry) - known:
                del registry[name]
            print(_warning(entry_point, kind, error), file=sys.stderr)


def _warning(entry_point: EntryPoint, kind: str, error: BaseException) -> str:
    package = entry_point.dist.name if entry_point.dist else entry_point.value
    return (
        f"warning: the {kind} '{entry_point.name}' of the package '{package}' is left out, because it cannot be "
        f"imported ({type(error).__name__}: {first_line(error)}): repair or uninstall the package"
    )
