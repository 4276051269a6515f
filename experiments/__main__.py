"""`python -m experiments`: the commands, one line each; `python -m experiments COMMAND ...` runs one of them."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

from experiments.cli.errors import command, stop
from experiments.errors import did_you_mean

COMMANDS = (
    "run", "sweep", "plan", "costs", "intrinsic", "truncate", "extract", "sample", "generate", "export", "paper",
    "bench",
)  # fmt: skip


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    if name not in COMMANDS:
        stop(f"unknown command '{name}'{did_you_mean(name, COMMANDS)}; the commands are {', '.join(COMMANDS)}")
    sys.argv = [f"python -m experiments.{name}", *rest]
    runpy.run_module(f"experiments.{name}", run_name="__main__")


def overview() -> str:
    """Every command with the first sentence of its module's docstring, read without importing the module."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_summary(name)}" for name in COMMANDS]
    return "\n".join(
        [
            "usage: python -m experiments COMMAND [OPTIONS]  (the same as python -m experiments.COMMAND)",
            "",
            "commands:",
            *lines,
            "",
            "The options of a command: python -m experiments COMMAND --help",
            "Tables, plots and pages from the records: python -m reports --help",
        ]
    )


def _summary(name: str) -> str:
    docstring = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return docstring.split(": `python")[0].split("\n")[0].rstrip(".")


if __name__ == "__main__":
    command(main)
