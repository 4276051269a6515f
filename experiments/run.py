"""Train one adapter on one task, measure it and write one record: `python -m experiments.run METHOD TASK`."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig


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
    # imported after parsing, so that --help is fast
    from experiments.device import device_of
    from experiments.records.folder import RunFolder
    from experiments.records.summary import show
    from experiments.session import execute
    from tasks import distributed

    config = requested.resolved()
    if distributed.num_launched() > 1:
        distributed.join(on_cpu=device_of(config).type == "cpu")
    config.task.all_metrics()  # before there is a folder: a metric may not be available
    folder = distributed.on_main(lambda: RunFolder.create(options.runs, config))
    record = distributed.on_main(folder.result)
    if record is not None and not options.overwrite:
        if distributed.is_main():
            print(f"already finished (--overwrite repeats it): {folder.path}")
    else:
        if distributed.is_main():
            _print_reduced_defaults(requested, config)
        record = execute(config, folder, overwrite=options.overwrite)
    if distributed.is_main():
        show(record, folder.path)
    distributed.leave()
    if record["status"] != "finished":
        raise SystemExit(1)


def _print_reduced_defaults(requested: RunConfig, config: RunConfig) -> None:
    """Print the task's settings that were reduced because the run is not on a GPU, if any."""
    before, after = asdict(requested.task), asdict(config.task)
    reduced = [f"--task.{name.replace('_', '-')} {after[name]}" for name in after if after[name] != before[name]]
    if reduced:
        print(f"defaults on a CPU: {' '.join(reduced)}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
