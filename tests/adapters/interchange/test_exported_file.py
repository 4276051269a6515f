"""Exported files: their content, and their sizes before they are written."""

import pytest
import torch
from safetensors.torch import load_file

from adapters.base import attach
from adapters.interchange.exported_file import SAFETENSORS_DTYPES, SafetensorsFile
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from tests.adapters.interchange.round_trip import fresh_backbone, save_files


@pytest.mark.parametrize(
    ("adapter", "kind", "format"),
    [
        (Lora(), "unet", "diffusers"),
        (Lora(), "unet", "kohya"),
        (Lora(), "gpt2", "peft"),
        (PrefixTuning(), "llama", "peft"),
    ],
)
def test_sizes_are_known_before_writing(adapter, kind, format, tmp_path):
    files = attach(adapter, fresh_backbone(kind)).export(format)
    assert list(tmp_path.iterdir()) == []
    paths = save_files(files, tmp_path / "new")
    assert [path.name for path in paths] == [file.name for file in files]
    assert [path.stat().st_size for path in paths] == [file.size() for file in files]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_methods_without_a_format_export_nothing():
    assert attach(PrefixTuning(), fresh_backbone("unet")).export() == []


def test_tensors_survive(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.bfloat16)}
    (path,) = save_files([SafetensorsFile("x.safetensors", tensors)], tmp_path)
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_every_number_format_has_its_size(tmp_path):
    names = [name.removeprefix("torch.") for name in SAFETENSORS_DTYPES]
    file = SafetensorsFile(
        "x.safetensors", {f"{i}": torch.ones(3, dtype=getattr(torch, n)) for i, n in enumerate(names)}
    )
    (path,) = save_files([file], tmp_path)
    assert path.stat().st_size == file.size()
