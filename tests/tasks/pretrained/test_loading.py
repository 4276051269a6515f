"""Damaged, incomplete or hostile bases are refused in one sentence, and their code is not run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.errors import TaskError
from tasks.language.model import bases

CPU = torch.device("cpu")
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


def test_sharded_weights_are_read_whole(tiny_base, tmp_path):
    """Large models are published as shards with an index."""
    whole = bases.load(tiny_base, CPU)
    shutil.copytree(tiny_base, tmp_path / "shards", ignore=shutil.ignore_patterns(WEIGHTS))
    model: Any = whole.model
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("model-0*.safetensors"))) > 2
    read = bases.load(str(tmp_path / "shards"), CPU)
    for name, weight in read.model.state_dict().items():
        assert torch.equal(weight, whole.model.state_dict()[name]), name
    shard = sorted((tmp_path / "shards").glob("model-0*.safetensors"))[1]
    save_file({n: t + 1 for n, t in load_file(shard).items()}, shard, metadata={"format": "pt"})
    assert bases.find_source(str(tmp_path / "shards")).revision != read.revision


def test_a_missing_shard_is_one_sentence(tiny_base, tmp_path):
    shutil.copytree(tiny_base, tmp_path / "shards", ignore=shutil.ignore_patterns(WEIGHTS))
    model: Any = bases.load(tiny_base, CPU).model
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    sorted((tmp_path / "shards").glob("model-0*.safetensors"))[1].unlink()
    with pytest.raises(TaskError) as refusal:
        bases.load(str(tmp_path / "shards"), CPU)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("GPT2-medum", "gpt2-medium"),
        ("Llama-3.1-8B", "llama-3.1-8b"),
        ("llama3.2-1b", "llama-3.2-1b"),
        ("Llama-2-7b-hf", "llama-2-7b"),
        ("Qwen2.5-7B", "qwen2.5-7b"),
        ("qwen3-8b-base", "qwen3-8b"),
        ("gemma2-2b", "gemma-2-2b"),
        ("gpt-mni", "gpt-mini"),
        ("llama", "llama-3.2-1b, llama-3.2-3b, llama-2-7b, llama-3.1-8b or llama-2-13b"),
        ("Qwen3", "qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b or qwen3-14b"),
    ],
)
def test_names_that_people_type_get_a_hint(typed, meant):
    with pytest.raises(TaskError, match=rf"\(did you mean {meant}\?\)"):
        bases.find_source(typed)
