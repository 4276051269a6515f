"""`python -m tasks check TASK --task.data ...`: read a task's data as a run would and say what is found.

It loads no model and takes seconds. The exit status is 1 if a run with the same settings would stop at the data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.cli.errors import command, stop
from experiments.cli.parser import asks_help, parse_task_settings
from tasks.base import Task
from tasks.data_report import DataReport
from tasks.diffusion.data.open_picture import SUFFIXES

PROGRAM = "python -m tasks"


@dataclass(frozen=True)
class CheckOptions:
    """Read a task's data as a run would: what is used, left out and cut, and eight pictures. Loads no model.

    For example: python -m tasks check sd-pokemon --task.data my-pictures --task.base sd-1-5
    """

    output: Path | None = None
    """Picture file for a grid of eight training pictures, outside of the data's folder. Default: none is written."""


def main() -> None:
    arguments = sys.argv[1:]
    if asks_help(arguments[:1]) or not arguments:
        print(f"usage: {PROGRAM} check TASK [OPTIONS]\n\n{__doc__}\nThe options: {PROGRAM} check TASK --help")
        return
    if arguments[0] != "check":
        stop(f"unknown command '{arguments[0]}'; the command is check")
    task, options = parse_task_settings(CheckOptions, arguments[1:], f"{PROGRAM} check")
    task.check_settings()
    if options.output is not None:
        _check_output(options.output, task)
    report = task.describe_data()
    print(report.text())
    if report.grid is not None:
        print(f"grid: {_write_grid(report, options.output)}")
    if report.faults:
        raise SystemExit(1)


def _check_output(file: Path, task: Task) -> None:
    """Stop the program for a file that would become one of the task's pictures, or that has no picture's name."""
    data = getattr(task, "data", None)
    if data and Path(data).is_dir() and file.resolve().is_relative_to(Path(data).resolve()):
        stop(f"--output '{file}' is in the folder of the data, where it would count as one of its pictures")
    if file.suffix.lower() not in SUFFIXES:
        valid = ", ".join(sorted(SUFFIXES))
        stop(f"--output '{file}' is not the name of a picture: expected a name that ends with {valid}")


def _write_grid(report: DataReport, file: Path | None) -> str:
    """Returns where the grid is; stops the program if it cannot be written."""
    if file is None:
        return "none; --output FILE.png writes one of training pictures"
    try:
        report.save_grid(file)
    except OSError as error:
        stop(f"--output '{file}' cannot be written ({error}): choose another file")
    return str(file)


if __name__ == "__main__":
    command(main)
