"""Export a finished run for other tools: `python -m experiments.export RUN --format diffusers|kohya|peft|...`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.precision import is_quantised, stored_in
from experiments.records.adapter_file import write_exports
from experiments.records.failures import DiskFull, is_disk_full
from experiments.records.folder import RunFolder
from experiments.records.load_run import LoadedRun, finished_record, load_run
from tasks.pretrained.precision import QUANTISED

if TYPE_CHECKING:
    from adapters.base import Adapter, Attachment

Format = Literal["diffusers", "kohya", "peft", "lycoris", "merged"]


@dataclass(frozen=True)
class ExportOptions:
    """Write a finished run's adapter in the format of another tool, or the whole model with the adapter merged in.

    For example: python -m experiments.export runs/sd-pokemon/lora/1a2b3c4d5e6f --format diffusers
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    format: Format
    """The tool that loads it; "merged" writes a model folder for from_pretrained of diffusers or transformers."""
    output: Path | None = None
    """Folder to write to. Default: RUN/export/FORMAT."""


def main() -> None:
    options = parse_options(ExportOptions, sys.argv[1:], "python -m experiments.export")
    folder = options.output or options.run / "export" / options.format
    check_format(RunConfig.from_record(finished_record(RunFolder(options.run))["config"]).adapter, options.format)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output '{folder}' is a file: choose a folder")
    try:
        run = load_run(options.run, in_fp32=True)  # merged exactly, and exported without the GPU of a quantised base
        files = export(run, options.format, folder)
    except DiskFull as full:
        raise UsageError(str(full)) from None
    except OSError as error:
        raise UsageError(f"--output '{folder}' is not writable ({error.strerror}): choose another folder") from None
    for file in files:
        print(file)
    if options.format == "merged" and (trained_on := stored_in(run.config.task)) in QUANTISED:
        print(
            f"merged into the base in fp32; the run was trained on it in {trained_on}, so that outputs differ slightly",
            file=sys.stderr,
        )


def check_format(adapter: Adapter, format: Format) -> None:
    """Raise UsageError if the method has no such format on any model; needs no model."""
    if format != "merged" and adapter.formats is None:
        return
    formats = [*(adapter.formats or ()), *(["merged"] if adapter.mergeable else [])]
    if format not in formats:
        valid = f"choose {' or '.join(formats)}" if formats else "use `load_run` of this testbed"
        raise UsageError(f"the method '{adapter.name}' has no format '{format}': {valid}")


def export(run: LoadedRun, format: Format, folder: Path) -> list[Path]:
    """Write the run in a format; returns the files, or the folder of a merged model.

    Merging changes the loaded run for good. Nothing is written unless the method has the format. Raises UsageError or
    AdapterError if it does not, and DiskFull.
    """
    check_format(run.config.adapter, format)
    if format != "merged":
        return write_exports(run.attachment.export(format), folder)
    if is_quantised(run.model):
        raise UsageError(
            "an adapter cannot be merged into the quantised base that this run is loaded on: load it with "
            "load_run(folder, in_fp32=True), or export the adapter itself"
        )
    merge_permanently(run.attachment)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run.base.save(folder)
    except Exception as error:  # safetensors has its own error class
        if is_disk_full(error):
            raise DiskFull(folder / "the merged model") from error
        raise
    return [folder]


def merge_permanently(attachment: Attachment) -> None:
    """Write the adapter into the model's weights and detach it: the model has its original class again."""
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
