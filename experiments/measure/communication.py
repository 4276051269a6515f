"""Count the bytes that data-parallel training sends: `python -m experiments.measure.communication`, under torchrun.

    torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3
    torchrun --nproc_per_node 2 -m experiments.measure.communication runs/TASK/METHOD/HASH/config.json

`accelerate launch --cpu` silently starts a single process if mpirun is missing, so the number of processes is checked.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.cli.errors import command
from experiments.cli.parser import parse, parse_options
from experiments.config import RunConfig
from experiments.measure.gradient_bytes import LAUNCH, Communication, count_gradient_bytes
from experiments.records.folder import read_config, write_json
from tasks import distributed


@dataclass(frozen=True)
class CommunicationOptions:
    """Train a few steps in several processes and count the bytes of gradients that each step reduces.

    The command takes a run's config.json instead of METHOD TASK, too. For example:
    torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3
    """

    output: Path | None = None
    """JSON file for the result."""


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and arguments[0].endswith(".json"):
        config = read_config(Path(arguments[0]))
        config = replace(config, train=replace(config.train, num_processes=1))  # those of this launch count
        options = parse_options(CommunicationOptions, arguments[1:], LAUNCH)
    else:
        config, options = parse(CommunicationOptions, arguments, LAUNCH)
    result = count_bytes(config.resolved())
    if distributed.is_main():
        print(
            f"{config.adapter.name} on {config.task.name}: {result.measured_bytes:,.0f} bytes per step and process "
            f"({result.processes} processes, {result.backend}), predicted {result.predicted_bytes:,}"
        )
        if options.output is not None:
            write_json(options.output, result.as_record())
    distributed.leave()


def count_bytes(config: RunConfig) -> Communication:
    """Train a resolved configuration in the processes that torchrun started, and count; leaves no run behind."""
    from experiments.process.device import device_of
    from experiments.session import reserve_and_attach
    from experiments.training.loop import Trainer

    device = device_of(config)
    if distributed.num_launched() > 1:
        distributed.join(on_cpu=device.type == "cpu")
    prepared = config.task.prepare(device)
    attachment = reserve_and_attach(config, prepared)
    with tempfile.TemporaryDirectory() as folder:
        return count_gradient_bytes(Trainer(prepared, attachment, config.for_items(prepared.train_items), Path(folder)))


if __name__ == "__main__":
    command(main)
