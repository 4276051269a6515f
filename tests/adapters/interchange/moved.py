"""Adapters that have moved away from their start, for trips to other tools' files and back."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapters.backbone import Backbone
from adapters.base import Adapter, Attachment, attach_initialised
from tests.contract import tiny
from tests.contract.tiny import output


def twin(kind: str) -> Backbone:
    return copy.deepcopy(tiny.built(kind))


def moved(adapter: Adapter, backbone: Backbone) -> Any:
    """Attached, every parameter away from its start, with effects of the size of the model's own output."""
    torch.manual_seed(5)
    attachment = adapter.attach(backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.normal_(std=0.3)
    return attachment


def exported(adapter: Adapter, kind: str, folder: Path, form: str | None = None) -> tuple[Backbone, Attachment]:
    """The tuned backbone and its attachment, whose form is in `folder`."""
    backbone = twin(kind)
    attachment = moved(adapter, backbone)
    assert attachment.export(folder, form)
    return backbone, attachment


def started(adapter: Adapter, kind: str, source: Path) -> Backbone:
    """A backbone of its own whose adapter began from `source`."""
    backbone = twin(kind)
    torch.manual_seed(9)
    attach_initialised(replace(adapter, init=str(source)), backbone)
    return backbone


def assert_same_output(first: Backbone, second: Backbone) -> None:
    torch.testing.assert_close(output(first), output(second), atol=1e-5, rtol=1e-5)
