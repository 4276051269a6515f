"""Exported files: their predicted sizes, and how they are written."""

import pytest
import torch
from safetensors.torch import load_file

from adapters.base import attach
from adapters.interchange.exported_file import JsonFile, SafetensorsFile, write
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from tests.adapters.interchange.round_trip import fresh_backbone


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
    paths = write(files, tmp_path / "new")
    assert [path.name for path in paths] == [file.name for file in files]
    assert [path.stat().st_size for path in paths] == [file.size() for file in files]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_methods_without_a_format_export_nothing():
    assert attach(PrefixTuning(), fresh_backbone("unet")).export() == []


class Unwritable(JsonFile):
    def save(self, path) -> None:
        path.write_text(self.text[:1])
        raise OSError("disk full")


def test_failed_write_leaves_the_old_file(tmp_path):
    write([JsonFile("a.json", "{}")], tmp_path)
    with pytest.raises(OSError, match="disk full"):
        write([Unwritable("a.json", "[1, 2]")], tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "{}")]


def test_tensors_survive(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.bfloat16)}
    (path,) = write([SafetensorsFile("x.safetensors", tensors)], tmp_path)
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
