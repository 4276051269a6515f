"""A finished run without the training: its adapter is changed at random, its files are written as a run writes them."""

from pathlib import Path

import torch

from adapters.base import attach
from experiments.config import RunConfig
from experiments.records.adapter_file import save_adapter
from experiments.records.contents import head_of
from experiments.records.folder import RunFolder, write_json

CPU = torch.device("cpu")


def finished_run(config: RunConfig, runs: Path, spread: float = 0.3, attached_under: int | None = None) -> RunFolder:
    """The adapter attaches under this seed, by default the run's."""
    config = config.resolved()
    folder = RunFolder.of(runs, config)
    folder.write_config(config)
    base = config.task.load_base(CPU)
    attachment = attach(config.adapter, base.backbone, config.train.seed if attached_under is None else attached_under)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(spread * torch.randn_like(parameter))
    save_adapter(config, folder, attachment)
    facts = {"base": getattr(config.task, "base", None), "base_revision": base.revision}
    write_json(
        folder.result_file, head_of(config, folder, CPU) | {"status": "finished", "reason": None, "facts": facts}
    )
    return folder
