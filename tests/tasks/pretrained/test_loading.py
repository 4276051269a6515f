"""Damaged, incomplete or hostile bases are refused in one sentence, and their code is not run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.errors import TaskError
from tasks.language.model import bases

WEIGHTS = "model.safetensors"
LAYER = "transformer.h.0.mlp.c_fc.weight"


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def mislabelled(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"this is a text, whatever its name says. " * 9)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def of_another_shape(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS) | {LAYER: torch.zeros(3, 3)}, folder / WEIGHTS, metadata={"format": "pt"})


def incomplete(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights[LAYER]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def with_custom_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.A", "AutoModelForCausalLM": "code.B"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(folder / 'was-run')!r}, 'w')\n")


def with_a_broken_card(folder: Path) -> None:
    (folder / "card.json").write_text('{"e2e": ')


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "incomplete metadata"),
        (mislabelled, "header too large"),
        (pickled, "no file named model.safetensors"),
        (of_another_shape, LAYER),
        (incomplete, LAYER),
        (with_custom_code, "custom code"),
        (with_a_broken_card, "card.json"),
    ],
)
def test_a_bad_base_is_refused_in_one_sentence(tiny_base, tmp_path, damage, says):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    damage(folder)
    with pytest.raises(TaskError) as refusal:
        bases.load(str(folder), torch.device("cpu"))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (folder / "was-run").exists()
