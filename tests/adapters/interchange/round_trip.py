"""Adapters away from their initial values, exported to files and loaded again."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapters.backbone import Backbone
from adapters.base import Adapter, Attachment, attach
from adapters.interchange.exported_file import ExportedFile
from tests.contract import tiny
from tests.contract.tiny import output


def fresh_backbone(kind: str) -> Backbone:
    """A copy of the tiny model of this kind, with the same weights each time."""
    return copy.deepcopy(tiny.built(kind))


def attach_perturbed(adapter: Adapter, backbone: Backbone) -> Any:
    """The attached adapter with random parameters, whose effects are of the size of the model's own output."""
    torch.manual_seed(5)
    attachment = adapter.attach(backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.normal_(std=0.3)
    return attachment


def export_perturbed(
    adapter: Adapter, kind: str, folder: Path, format: str | None = None
) -> tuple[Backbone, Attachment]:
    """A backbone and its perturbed adapter, which is exported to `folder`."""
    backbone = fresh_backbone(kind)
    attachment = attach_perturbed(adapter, backbone)
    assert save_files(attachment.export(format), folder)
    return backbone, attachment


def save_files(files: list[ExportedFile], folder: Path) -> list[Path]:
    """Write exported files to `folder`, which is created if needed; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.save(folder / file.name)
    return [folder / file.name for file in files]


def load_backbone(adapter: Adapter, kind: str, source: Path) -> Backbone:
    """A fresh backbone with the adapter initialised from `source`."""
    backbone = fresh_backbone(kind)
    torch.manual_seed(9)
    attach(replace(adapter, init=str(source)), backbone)
    return backbone


def assert_same_output(first: Backbone, second: Backbone) -> None:
    torch.testing.assert_close(output(first), output(second), atol=1e-5, rtol=1e-5)
