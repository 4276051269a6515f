"""Train one adapter on one task, measure it and write one record: `python -m experiments.run METHOD TASK`."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig, uses_cuda


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
    from experiments.planning.expected_time import expected_time
    from experiments.process.device import device_of
    from experiments.records.folder import RunFolder
    from experiments.records.summary import show
    from experiments.records.unfinished import changed_since
    from experiments.session import execute
    from experiments.training.preflight import check_before_loading
    from tasks import distributed

    config = requested.resolved()
    if distributed.num_launched() > 1:
        distributed.join(on_cpu=device_of(config).type == "cpu")
    check_before_loading(config)
    folder = distributed.on_main(lambda: RunFolder.of(options.runs, config))
    record = None if options.overwrite else distributed.on_main(folder.result)
    if record is not None:
        if distributed.is_main():
            print(f"already finished (--overwrite repeats it): {folder.path}")
    else:
        if distributed.is_main():
            _print_reduced_defaults(requested, config)
            if changed := changed_since(folder, config):
                print(changed, file=sys.stderr)
            if expected := expected_time([config], options.runs, overwrite=options.overwrite):
                print(f"expected to take {expected}", file=sys.stderr, flush=True)
        record = execute(config, folder, overwrite=options.overwrite)
    if distributed.is_main():
        show(record, folder.path)
    distributed.leave()
    if record["status"] != "finished":
        raise SystemExit(1)


def _print_reduced_defaults(requested: RunConfig, config: RunConfig) -> None:
    """Print the task's settings that were reduced because the run is not on a GPU, if any."""
    if uses_cuda(config.train):
        return
    before, after = asdict(requested.task), asdict(requested.task.on_cpu())
    reduced = [f"--task.{name.replace('_', '-')} {after[name]}" for name in after if after[name] != before[name]]
    if reduced:
        print(f"defaults on a CPU: {' '.join(reduced)}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
