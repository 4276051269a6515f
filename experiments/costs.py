"""What each method costs on one task, measured under one protocol: `python -m experiments.costs TASK`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import registry as adapter_registry
from adapters.errors import AdapterError
from experiments.cli.errors import command
from experiments.cli.overrides import Overrides, method_settings
from experiments.cli.parser import parse_task
from experiments.config import RunConfig, Train
from experiments.errors import UsageError, did_you_mean
from experiments.records.folder import RunFolder, write_json
from tasks.base import registry as task_registry

if TYPE_CHECKING:
    from adapters.base import Attachment
    from tasks.base import PreparedTask

PROGRAM = "python -m experiments.costs"
FILE = "costs.json"  # in the run folder of its configuration, which it does not make a run


@dataclass(frozen=True)
class CostsOptions:
    """Measure what each method costs on TASK: parameters, bytes, memory, operations, step time, latency, switching.

    A few training steps a method are enough; nothing is evaluated. For example:
    python -m experiments.costs sd-pokemon --methods lora full --sizes 4 16
    """

    methods: tuple[str, ...] = ()
    """The methods to measure. Default: all."""
    sizes: tuple[int, ...] = ()
    """Values of each method's size (rank, width, length, dimension). Default: each method's own."""
    set: tuple[str, ...] = ()
    """Settings of single methods, as METHOD.SETTING=VALUE: lora.alpha=8 "lora.targets=query value"."""
    runs: Path = Path("runs")
    """Folder that the records go to."""
    steps: int = 20
    """Training steps that are timed."""
    rounds: int = 40
    """Interleaved rounds of each comparison of latencies."""
    items: int = 1
    """Items in a forward pass whose latency is measured."""
    mixed: int = 4
    """Items in a batch of which each uses another adapter."""
    processes: int = 2
    """Processes of the run in which the bytes sent are counted; 1 leaves the prediction."""


def main() -> None:
    overrides, options = parse_task(CostsOptions, sys.argv[1:], PROGRAM)
    configs = configurations(overrides, options)
    from experiments.session import device_of

    prepared = configs[0].task.prepare(device_of(configs[0]))
    left_out = []
    for config in configs:
        try:
            record = measured(config, options, prepared)
        except AdapterError as unable:
            left_out.append(f"{config.adapter.name}: {unable}")
            continue
        file = RunFolder.of(options.runs, config).path / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, record)
        print(f"{label(config)}: {file}")
    for why in left_out:
        print(f"left out: {why}", file=sys.stderr)
    print(f"the table: python -m reports costs {configs[0].task.name} --runs {options.runs}")


def label(config: RunConfig) -> str:
    adapter, size_field = config.adapter, config.adapter.size_field
    size = None if size_field is None else getattr(adapter, size_field)
    return adapter.name if size is None else f"{adapter.name} {size_field} {size}"


def configurations(overrides: Overrides, options: CostsOptions) -> list[RunConfig]:
    """One a method and size, resolved. Raises UsageError where the command line makes no sense."""
    from experiments.sweeping.expansion import sized

    if overrides.task_name is None:
        known = ", ".join(sorted(task_registry()))
        raise UsageError(f"expected a TASK, for example: {PROGRAM} sd-pokemon; the tasks are {known}")
    for name, least in {"steps": 1, "rounds": 1, "items": 1, "mixed": 2, "processes": 1}.items():
        if getattr(options, name) < least:
            raise UsageError(f"--{name} must be at least {least}, not {getattr(options, name)}")
    methods, settings = adapter_registry(), method_settings(options.set)
    for name in options.methods:
        if name not in methods:
            known = ", ".join(sorted(methods))
            raise UsageError(f"there is no method '{name}'{did_you_mean(name, methods)}; the methods are {known}")
    chosen = options.methods or sorted(methods)
    arms = [
        replace(arm, **settings.get(name, {}))
        for name in chosen
        for arm in sized(methods[name], options.sizes, settings.get(name, {}))
    ]
    task = task_registry()[overrides.task_name]()
    return [overrides.apply(RunConfig(arm, task, Train())).resolved() for arm in arms]


def measured(config: RunConfig, options: CostsOptions, prepared: PreparedTask) -> dict[str, Any]:
    """The cost record of one method; the task's backbone is given back as it was.

    Raises AdapterError where the method does not work on the model.
    """
    from experiments.session import attach, device_of, facts_of, head_of, parameters_of

    folder = RunFolder.of(options.runs, config)
    attachment = attach(config, prepared)
    try:
        record = {
            **head_of(config, folder, device_of(config)),
            "parameters": parameters_of(prepared, attachment),
            "facts": facts_of(prepared, attachment),
            **training(config, options, prepared, attachment),
            **serving(config, options, prepared, attachment),
        }
    finally:
        attachment.detach()
    if options.processes > 1:
        record["communication"] = counted_bytes(config, options.processes)
    return record


def training(
    config: RunConfig, options: CostsOptions, prepared: PreparedTask, attachment: Attachment
) -> dict[str, Any]:
    """Memory, operations and speed of a few training steps, and the file that they end with."""
    from experiments.measure.step_costs import step_costs
    from experiments.session import save_adapter
    from experiments.training.loop import Trainer

    settings = replace(config.train, steps=options.steps, epochs=None, validation_steps=options.steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(prepared, attachment, settings, Path(folder))
        trained = trainer.run()
        return {
            "memory": dict(trained.memory),
            "adapter_bytes": save_adapter(config, RunFolder(Path(folder)), attachment),
            **step_costs(trainer),
        }


def serving(config: RunConfig, options: CostsOptions, prepared: PreparedTask, attachment: Attachment) -> dict[str, Any]:
    """Latency and merge error, then what switching from one adapter to another costs, alone and within a batch."""
    from experiments.measure.latency import ModelInput, inference, mixed_batch, switch

    single, batch = (ModelInput.of(prepared, items) for items in (options.items, options.mixed))
    latency = inference(attachment, single.forward, options.items, config.adapter.mergeable, options.rounds)
    trained = attachment.state()
    others = [shifted(trained, number) for number in range(options.mixed)]
    found = {
        "inference": asdict(latency),
        "switch": asdict(switch(attachment, others, -(-options.rounds // options.mixed))),
        "mixed_batch": asdict(
            mixed_batch(attachment, batch.forward, lambda i: batch.item(i).forward(), others, options.rounds)
        ),
    }
    attachment.load(trained)
    return found


def shifted(state: dict[str, Any], number: int) -> dict[str, Any]:
    """Another adapter of the same shapes, near this one."""
    return {
        name: tensor * (1 + 0.01 * number) if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }


def counted_bytes(config: RunConfig, processes: int) -> dict[str, Any]:
    """What `experiments.measure.communication` counts in so many processes, as a program of its own."""
    with tempfile.TemporaryDirectory() as folder:
        written, result = Path(folder) / "config.json", Path(folder) / "result.json"
        few = replace(config, train=replace(config.train, steps=2, epochs=None, validation_steps=2))
        write_json(written, few.as_record())
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        program = ["-m", "experiments.measure.communication", str(written), str(result)]
        done = subprocess.run([*launcher, *program], capture_output=True, text=True)
        if done.returncode != 0:
            raise UsageError(
                f"{processes} processes could not count the bytes sent ({last_error(done.stderr.splitlines())}): "
                "--processes 1 leaves the prediction"
            )
        return json.loads(result.read_text())


def last_error(lines: Iterable[str]) -> str:
    """The last line that names an error before the launcher's own account."""
    named = [line.strip() for line in lines if "rror: " in line and "ChildFailedError" not in line]
    return named[-1] if named else "no reason given"


if __name__ == "__main__":
    command(main)
