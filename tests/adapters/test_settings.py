"""What can be checked of a method's settings without a model: numbers, roles, the file to start from."""

import json
from dataclasses import replace

import pytest

from adapters.base import adapter_registry, attach
from adapters.bottleneck import Bottleneck
from adapters.errors import AdapterError
from adapters.full_finetuning import FullFinetuning
from adapters.interchange.peft_folder import PEFT_CONFIG
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from adapters.subspace import Subspace
from tests.adapters.interchange.round_trip import export_perturbed

NAN, INFINITY = float("nan"), float("inf")
OURS = [cls for cls in adapter_registry().values() if cls.__module__.startswith("adapters.")]


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (Lora(rank=0), "--adapter.rank must be at least 1 and at most 65536, not 0"),
        (Lora(alpha=0), "--adapter.alpha must be above 0 and at most 1e+18 or 'rank', not 0"),
        (Lora(dropout=NAN), "--adapter.dropout must be at least 0 and below 1, not nan"),
        (Lora(ranks={"query": -1}), "--adapter.ranks must be at least 0 and at most 65536, not {'query': -1}"),
        (Bottleneck(width=0), "--adapter.width must be at least 1 and at most 65536, not 0"),
        (PrefixTuning(length=0), "--adapter.length must be at least 1 and at most 65536, not 0"),
        (Subspace(dimension=0), "--adapter.dimension must be at least 1 and at most 1000000000000, not 0"),
        (FullFinetuning(top_blocks=0), "--adapter.top-blocks must be at least 1 and at most 65536, not 0"),
        (
            Lora(rank=0, dropout=1),
            "--adapter.rank must be at least 1 and at most 65536, not 0; "
            "--adapter.dropout must be at least 0 and below 1, not 1",
        ),
        (Lora(init="/no/such/file"), "no such file or folder: '/no/such/file'"),
    ],
    ids=str,
)
def test_wrong_settings_are_one_sentence_without_a_model(adapter, sentence):
    with pytest.raises(AdapterError) as error:
        adapter.check_settings()
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("adapter", [Lora(rank=0), Bottleneck(width=0), PrefixTuning(length=0), Subspace(dimension=0)])
def test_attaching_checks_the_settings(adapter, gpt2):
    with pytest.raises(AdapterError, match="must be at least 1"):
        attach(adapter, gpt2)


def test_valid_settings_pass():
    for cls in OURS:
        for settings in cls.examples:
            cls(**settings).check_settings()


def test_positions_that_a_method_takes():
    assert PrefixTuning(length=7).positions_taken == 7
    assert Lora().positions_taken == 0


def test_the_digest_is_that_of_the_content(tmp_path):
    adapter = Lora(rank=2)
    assert adapter.init_digest() is None
    for name in ("first", "copy", "other"):
        export_perturbed(replace(adapter, rank=3) if name == "other" else adapter, "llama", tmp_path / name)
    (tmp_path / "copy" / "notes.txt").write_text("not the adapter's")
    first, copy, other = (Lora(init=str(tmp_path / name)).init_digest() for name in ("first", "copy", "other"))
    file = Lora(init=str(tmp_path / "copy" / "adapter_model.safetensors")).init_digest()
    assert first == copy == file != other
    config = tmp_path / "copy" / PEFT_CONFIG
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 1}))
    assert Lora(init=str(tmp_path / "copy")).init_digest() != first
