"""The imports between the project's modules: every import statement counts, lazy and type-only ones too."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = Mapping[str, set[str]]


def module_names(root: Path, packages: Iterable[str]) -> dict[str, Path]:
    """Every module of the packages below `root`, by its dotted name."""
    files = [file for package in packages for file in (root / package).rglob("*.py")]
    return {_dotted(file.relative_to(root)): file for file in files}


def _dotted(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def imported_names(source: str) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import in a file, at any depth; a relative import is an error."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"relative import in line {node.lineno}")
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)


def import_graph(root: Path, packages: Iterable[str]) -> dict[str, set[str]]:
    """Which modules of the packages each module imports."""
    modules = module_names(root, packages)
    graph: dict[str, set[str]] = {}
    for importer, file in modules.items():
        targets = set()
        for module, name in imported_names(file.read_text(encoding="utf-8")):
            submodule = f"{module}.{name}"
            targets |= {submodule} if submodule in modules else {module} & modules.keys()
        graph[importer] = targets - {importer}
    return graph


def find_cycle(graph: Graph) -> list[str] | None:
    """The modules of one import cycle, the first one again at the end; None if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return None
