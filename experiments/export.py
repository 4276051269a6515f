"""A finished run for other tools: `python -m experiments.export RUN --format diffusers|kohya|peft|merged`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.interchange.exported_file import write
from experiments.cli.errors import command
from experiments.records.load_run import LoadedRun, load_run

if TYPE_CHECKING:
    from adapters.base import Attachment


def main() -> None:
    options = parser().parse_args()
    for file in export(load_run(options.run), options.format, options.out or options.run / "export" / options.format):
        print(file)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(
        prog="python -m experiments.export",
        description="Write a finished run's adapter for other tools, or the whole model with the adapter merged into "
        "its weights (a folder of diffusers or transformers that from_pretrained loads).",
    )
    program.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    program.add_argument("--format", required=True, choices=["diffusers", "kohya", "peft", "merged"])
    program.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: RUN/export/FORMAT)")
    return program


def export(run: LoadedRun, form: str, folder: Path) -> list[Path]:
    """Write the form; the files or, of a whole model, the folder. Raises AdapterError where the method has it not."""
    if form != "merged":
        return write(run.attachment.export(form), folder)
    folder.mkdir(parents=True, exist_ok=True)
    fold(run.attachment)
    run.base.save(folder)
    return [folder]


def fold(attachment: Attachment) -> None:
    """Merge for good: the model is then of its own class again, with the adapter in its weights."""
    import torch

    model = attachment.backbone.model
    attachment.merge()
    merged = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    attachment.detach()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(merged[name])


if __name__ == "__main__":
    command(main)
