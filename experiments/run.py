"""The command `python -m experiments.run METHOD TASK`: train one adapter on one task and write one record."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.records.folder import RunFolder
from experiments.session import device_of, execute
from tasks import distributed


@dataclass(frozen=True)
class RunOptions:
    """Train one adapter on one task, measure it and write one record.

    For example: python -m experiments.run lora sd-pokemon --adapter.rank 8 --train.seed 1
    """

    runs: Path = Path("runs")
    """Folder for the records."""
    overwrite: bool = False
    """Run even if this configuration has finished before, and replace its record."""


def main() -> None:
    requested, options = parse(RunOptions, sys.argv[1:], "python -m experiments.run")
    config = requested.resolved()
    if distributed.num_launched() > 1:
        distributed.join(on_cpu=device_of(config).type == "cpu")
    folder = distributed.on_main(lambda: RunFolder.create(options.runs, config))
    record = distributed.on_main(folder.result)
    if record is not None and not options.overwrite:
        if distributed.is_main():
            print(f"already finished (--overwrite runs it again): {folder.path}")
    else:
        _announce_cpu_settings(requested, config)
        record = execute(config, folder, overwrite=options.overwrite)
    if distributed.is_main():
        from experiments.records.summary import show

        show(record, folder.path)
    distributed.leave()
    if record["status"] != "finished":
        raise SystemExit(1)


def _announce_cpu_settings(requested: RunConfig, config: RunConfig) -> None:
    """One line where the task was made smaller because the run is not on a GPU."""
    before, after = (asdict(each.task) for each in (requested, config))
    smaller = [f"--task.{name.replace('_', '-')} {after[name]}" for name in after if after[name] != before[name]]
    if smaller and distributed.is_main():
        print(f"defaults on a CPU: {' '.join(smaller)}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
