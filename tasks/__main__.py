"""`python -m tasks check TASK --task.data ...`: read a task's data as a run would and say what is found.

It loads no model and takes seconds. The exit status is 1 if a run with the same settings would stop at the data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.cli.errors import command, stop
from experiments.cli.parser import asks_help, parse_task_settings

PROGRAM = "python -m tasks"


@dataclass(frozen=True)
class CheckOptions:
    """Read a task's data as a run would: what is used, left out and cut, and eight pictures. Loads no model.

    For example: python -m tasks check sd-pokemon --task.data my-pictures --task.base sd-1-5
    """

    output: Path = Path("check.png")
    """File for a grid of training pictures."""


def main() -> None:
    arguments = sys.argv[1:]
    if asks_help(arguments[:1]) or not arguments:
        print(f"usage: {PROGRAM} check TASK [OPTIONS]\n\n{__doc__}\nThe options: {PROGRAM} check TASK --help")
        return
    if arguments[0] != "check":
        stop(f"unknown command '{arguments[0]}'; the command is check")
    task, options = parse_task_settings(CheckOptions, arguments[1:], f"{PROGRAM} check")
    task.check_settings()
    report = task.describe_data()
    print(report.text())
    if report.grid is not None:
        report.save_grid(options.output)
        print(f"grid: {options.output}")
    if report.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    command(main)
