"""Files that cannot be read or do not fit: an error of one sentence, and an unchanged model."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import attach, settings_of
from adapters.bottleneck import Bottleneck
from adapters.errors import AdapterError
from adapters.interchange.diffusers_file import DIFFUSERS_FILE
from adapters.interchange.kohya import KOHYA_FILE
from adapters.interchange.native import NATIVE_FILE, metadata_of
from adapters.interchange.peft_folder import PEFT_CONFIG, PEFT_FILE
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from tests.adapters.interchange.round_trip import attach_perturbed, export_perturbed, fresh_backbone
from tests.contract.tiny import output

ADAPTER = Lora(rank=2, targets=("query",))


def assert_refused(source, match: str, adapter: Any = ADAPTER, kind: str = "unet") -> None:
    """Attaching raises an error of one sentence that matches, and leaves the model unchanged."""
    backbone = fresh_backbone(kind)
    before = output(backbone)
    with pytest.raises(AdapterError, match=match) as error:
        attach(replace(adapter, init=str(source)), backbone)
    assert "\n" not in str(error.value)
    assert torch.equal(output(backbone), before)
    assert not any(module._forward_hooks for module in backbone.model.modules())


@pytest.fixture
def file(tmp_path):
    export_perturbed(ADAPTER, "unet", tmp_path)
    return tmp_path / DIFFUSERS_FILE


def edited(file, change) -> Any:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file


def test_missing_file_and_empty_folder(tmp_path):
    assert_refused(tmp_path / "nothing", "no such file or folder")
    assert_refused(tmp_path, "holds no adapter")


def test_truncated_file(file):
    file.write_bytes(file.read_bytes()[:-100])
    assert_refused(file, "not a complete safetensors file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\xff" * 64, b'{"a": 1}'])
def test_file_that_is_not_safetensors(content, tmp_path):
    file = tmp_path / "wrong.safetensors"
    file.write_bytes(content)
    assert_refused(file, "not a complete safetensors file")


def test_pickle_is_never_opened(tmp_path):
    file = tmp_path / "pytorch_lora_weights.bin"
    torch.save({}, file)
    assert_refused(file, "may run code")


def test_a_file_of_another_kind_is_not_accused_of_code(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("hi")
    assert_refused(file, "notes.txt' is not a .safetensors file: pass an adapter's .safetensors file or its folder")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(value, file):
    assert_refused(edited(file, lambda tensors: next(iter(tensors.values())).fill_(value)), "not finite")


def test_shapes_of_another_model(file):
    def widen(tensors):
        name = next(name for name in tensors if "lora_A" in name)
        tensors[name] = torch.zeros(2, tensors[name].shape[1] + 1)

    assert_refused(edited(file, widen), "in shapes")


def test_a_and_b_of_different_ranks(file):
    def grow(tensors):
        name = next(name for name in tensors if "lora_A" in name)
        tensors[name] = torch.zeros(3, tensors[name].shape[1])

    assert_refused(edited(file, grow), "expected \\(rank, in\\)")


def test_missing_b(file):
    assert_refused(edited(file, lambda t: t.pop(next(name for name in t if "lora_B" in name))), "only a part")


def test_file_of_another_method(file):
    foreign = {"unet.conv_in.hada_w1_a": torch.zeros(2, 2)}
    assert_refused(edited(file, lambda t: t.update(foreign)), "is a LoHa .* only plain LoRA files are read")


def test_file_for_another_model(file):
    assert_refused(file, "matches no layer", kind="llama")


def test_file_for_a_deeper_model_names_the_foreign_layer(file):
    extra = {f"unet.down_blocks.9.attn1.to_q.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    assert_refused(
        edited(file, lambda tensors: tensors.update(extra)),
        "1 layers \\('down_blocks.9|1 layers \\('unet.down_blocks.9",
    )


def test_more_or_fewer_layers_than_targeted(file):
    assert_refused(file, "also updates .*'down_blocks", replace(ADAPTER, targets=("cross-attention.query",)))
    assert_refused(
        file,
        "has no update for .*attn1.to_k'.*: set --adapter.targets .*-attention.query",
        replace(ADAPTER, targets=("query", "key")),
    )


def test_the_targets_that_a_file_holds_are_named(tmp_path):
    export_perturbed(Lora(rank=2, targets=("attention",)), "unet", tmp_path)
    file = tmp_path / DIFFUSERS_FILE
    everything = Lora(rank=2, targets=("all",))
    assert_refused(file, "set --adapter.targets attention, which", everything)

    def keep_one(tensors):
        for name in sorted(tensors)[2:]:
            del tensors[name]

    assert_refused(edited(file, keep_one), "holds only some layers of [a-z-]+.[a-z]+, ", everything)


def test_sizes_of_another_base_are_named_before_missing_layers(file):
    def widen(tensors):
        for name in sorted(tensors)[2:]:
            del tensors[name]
        for name, tensor in tensors.items():
            tensors[name] = torch.zeros(2, tensor.shape[1] + 7) if "lora_A" in name else tensor

    assert_refused(edited(file, widen), "was trained on another base: it has .* in shapes .*, expected ")


def test_higher_rank_names_the_rank_to_set(file):
    assert_refused(file, "--adapter.rank 2", replace(ADAPTER, rank=1))


def test_untargeted_part_of_a_fused_layer(tmp_path):
    export_perturbed(replace(ADAPTER, targets=("query", "value")), "gpt2", tmp_path)
    assert_refused(tmp_path, "updates more of 'transformer.h.0.attn.c_attn' than query", kind="gpt2")


def test_peft_weights_without_configuration(tmp_path):
    export_perturbed(ADAPTER, "llama", tmp_path)
    (tmp_path / PEFT_CONFIG).unlink()
    assert_refused(tmp_path / PEFT_FILE, "must be beside", kind="llama")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"bias": "all"}, "biases"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_peft_configuration_that_is_not_plain_lora(settings, match, tmp_path):
    export_perturbed(ADAPTER, "llama", tmp_path)
    config = json.loads((tmp_path / PEFT_CONFIG).read_text())
    (tmp_path / PEFT_CONFIG).write_text(json.dumps(config | settings))
    assert_refused(tmp_path, match, kind="llama")


def test_kohya_file_without_alpha_has_scale_one(tmp_path):
    export_perturbed(replace(ADAPTER, alpha=16.0), "unet", tmp_path, "kohya")
    file = tmp_path / KOHYA_FILE
    plain = {name: tensor for name, tensor in load_file(file).items() if not name.endswith(".alpha")}
    save_file(plain, file)
    backbone = fresh_backbone("unet")
    attachment: Any = attach(replace(ADAPTER, init=str(file)), backbone)
    name, update = next(iter(attachment.updates.items()))
    key = f"lora_unet_{name.replace('.', '_')}"
    torch.testing.assert_close(update.delta(), plain[f"{key}.lora_up.weight"] @ plain[f"{key}.lora_down.weight"])


def save_native(adapter, kind: str, folder) -> Any:
    """Save what a run saves; returns the adapted backbone."""
    backbone = fresh_backbone(kind)
    state = attach_perturbed(adapter, backbone).state()
    save_file(state, folder / NATIVE_FILE, metadata=metadata_of(settings_of(adapter)))
    return backbone


def test_native_file_of_other_settings_or_another_method(tmp_path):
    tuned = save_native(Bottleneck(width=4), "llama", tmp_path)
    loaded = fresh_backbone("llama")
    attach(Bottleneck(width=4, init=str(tmp_path)), loaded)
    assert torch.equal(output(loaded), output(tuned))
    assert_refused(tmp_path, "--adapter.width 4, not 8", Bottleneck(width=8), "llama")
    assert_refused(tmp_path, "holds the method 'bottleneck', not 'lora'", ADAPTER, "llama")
    assert_refused(tmp_path, "holds the method 'bottleneck', not 'prefix'", PrefixTuning(), "llama")


def test_formats_that_a_method_does_not_have(tmp_path):
    with pytest.raises(AdapterError, match="no format 'kohya': choose peft"):
        export_perturbed(ADAPTER, "llama", tmp_path, "kohya")
    with pytest.raises(AdapterError, match="for one model"):
        export_perturbed(ADAPTER, "unet+clip", tmp_path, "peft")
    with pytest.raises(AdapterError, match="no format 'peft'"):
        export_perturbed(Bottleneck(), "llama", tmp_path, "peft")
    with pytest.raises(AdapterError, match="no format 'peft'"):
        export_perturbed(PrefixTuning(), "unet", tmp_path, "peft")
