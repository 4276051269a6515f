"""Count the bytes that data-parallel training sends: `python -m experiments.measure.communication`, under torchrun.

    torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3
    torchrun --nproc_per_node 2 -m experiments.measure.communication runs/TASK/METHOD/HASH/config.json

`accelerate launch --cpu` silently starts a single process if mpirun is missing, so the number of processes is checked.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.cli.errors import command
from experiments.cli.parser import parse, parse_options
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.measure.gradient_bytes import LAUNCH, Communication, count_gradient_bytes
from experiments.records.folder import write_json
from reports.upgrade import upgrade_config
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
        config = read_configuration(Path(arguments[0]))
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


def read_configuration(file: Path) -> RunConfig:
    """The configuration in a run's `config.json`, also of an earlier release, whatever number of processes it had.

    Raises UsageError if the file holds no configuration.
    """
    try:
        record = upgrade_config(json.loads(file.read_text()))
        train = record["train"] | {"num_processes": 1}
    except OSError as error:
        raise UsageError(f"'{file}' cannot be read ({error.strerror}): expected a run's config.json") from None
    except (ValueError, AttributeError, KeyError, TypeError):
        raise UsageError(f"'{file}' is not a run configuration: expected a run's config.json") from None
    return RunConfig.from_record(record | {"train": train})


def count_bytes(config: RunConfig) -> Communication:
    """Train a resolved configuration in the processes that torchrun started, and count; leaves no run behind."""
    from experiments.device import device_of
    from experiments.session import attach_seeded
    from experiments.training.loop import Trainer

    device = device_of(config)
    if distributed.num_launched() > 1:
        distributed.join(on_cpu=device.type == "cpu")
    prepared = config.task.prepare(device)
    attachment = attach_seeded(config, prepared)
    with tempfile.TemporaryDirectory() as folder:
        return count_gradient_bytes(Trainer(prepared, attachment, config.train, Path(folder)))


if __name__ == "__main__":
    command(main)
