"""Files that cannot be read, or do not fit, are one sentence; nothing of the model has changed then."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import attach_initialised
from adapters.bottleneck import Bottleneck
from adapters.errors import AdapterError
from adapters.interchange.diffusers_file import DIFFUSERS_FILE
from adapters.interchange.kohya import KOHYA_FILE
from adapters.interchange.peft_folder import PEFT_CONFIG, PEFT_FILE
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from tests.adapters.interchange.moved import exported, moved, twin
from tests.contract.tiny import output

ADAPTER = Lora(rank=2, targets=("query",))


def refused(source, match: str, adapter: Any = ADAPTER, kind: str = "unet") -> None:
    """One sentence that says `match`, and the model as it was."""
    backbone = twin(kind)
    before = output(backbone)
    with pytest.raises(AdapterError, match=match) as caught:
        attach_initialised(replace(adapter, init=str(source)), backbone)
    assert "\n" not in str(caught.value)
    assert torch.equal(output(backbone), before)
    assert not any(module._forward_hooks for module in backbone.model.modules())


@pytest.fixture
def file(tmp_path):
    exported(ADAPTER, "unet", tmp_path)
    return tmp_path / DIFFUSERS_FILE


def changed(file, change) -> Any:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file


def test_no_such_place(tmp_path):
    refused(tmp_path / "nothing", "no file or folder")
    refused(tmp_path, "holds no adapter")


def test_truncated(file):
    file.write_bytes(file.read_bytes()[:-100])
    refused(file, "not a whole safetensors file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\xff" * 64, b'{"a": 1}'])
def test_mislabelled(content, tmp_path):
    file = tmp_path / "wrong.safetensors"
    file.write_bytes(content)
    refused(file, "not a whole safetensors file")


def test_a_pickle_is_never_opened(tmp_path):
    file = tmp_path / "pytorch_lora_weights.bin"
    torch.save({}, file)
    refused(file, "may run code")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(value, file):
    refused(changed(file, lambda tensors: next(iter(tensors.values())).fill_(value)), "not finite")


def test_shapes_of_another_model(file):
    def widen(tensors):
        name = next(name for name in tensors if "lora_A" in name)
        tensors[name] = torch.zeros(2, tensors[name].shape[1] + 1)

    refused(changed(file, widen), "in shapes")


def test_ranks_that_differ_between_a_and_b(file):
    def grow(tensors):
        name = next(name for name in tensors if "lora_A" in name)
        tensors[name] = torch.zeros(3, tensors[name].shape[1])

    refused(changed(file, grow), "expected \\(rank, in\\)")


def test_a_without_b(file):
    refused(changed(file, lambda t: t.pop(next(name for name in t if "lora_B" in name))), "only a part")


def test_another_method(file):
    refused(
        changed(file, lambda t: t.update({"unet.conv_in.hada_w1_a": torch.zeros(2, 2)})), "no plain LoRA|plain LoRA"
    )


def test_no_layer_of_this_model(file):
    refused(file, "matches no layer", kind="llama")


def test_a_file_for_a_deeper_model_names_what_is_foreign(file):
    extra = {f"unet.down_blocks.9.attn1.to_q.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    refused(
        changed(file, lambda tensors: tensors.update(extra)),
        "1 layers \\('down_blocks.9|1 layers \\('unet.down_blocks.9",
    )


def test_more_layers_than_targeted_and_fewer(file):
    refused(file, "also updates .*'down_blocks", replace(ADAPTER, targets=("cross-attention.query",)))
    refused(file, "has no update for .*attn1.to_k'", replace(ADAPTER, targets=("query", "key")))


def test_a_higher_rank_says_which_to_set(file):
    refused(file, "--adapter.rank 2", replace(ADAPTER, rank=1))


def test_a_part_of_a_fused_layer_that_is_not_targeted(tmp_path):
    exported(replace(ADAPTER, targets=("query", "value")), "gpt2", tmp_path)
    refused(tmp_path, "updates more of 'transformer.h.0.attn.c_attn' than query", kind="gpt2")


def test_peft_without_its_configuration(tmp_path):
    exported(ADAPTER, "llama", tmp_path)
    (tmp_path / PEFT_CONFIG).unlink()
    refused(tmp_path / PEFT_FILE, "must lie beside", kind="llama")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"bias": "all"}, "biases"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_peft_configurations_that_are_no_plain_lora(settings, says, tmp_path):
    exported(ADAPTER, "llama", tmp_path)
    config = json.loads((tmp_path / PEFT_CONFIG).read_text())
    (tmp_path / PEFT_CONFIG).write_text(json.dumps(config | settings))
    refused(tmp_path, says, kind="llama")


def test_kohya_without_alpha_has_the_scale_one(tmp_path):
    exported(replace(ADAPTER, alpha=16.0), "unet", tmp_path, "kohya")
    file = tmp_path / KOHYA_FILE
    plain = {name: tensor for name, tensor in load_file(file).items() if not name.endswith(".alpha")}
    save_file(plain, file)
    backbone = twin("unet")
    attachment: Any = attach_initialised(replace(ADAPTER, init=str(file)), backbone)
    name, update = next(iter(attachment.updates.items()))
    key = f"lora_unet_{name.replace('.', '_')}"
    torch.testing.assert_close(update.delta(), plain[f"{key}.lora_up.weight"] @ plain[f"{key}.lora_down.weight"])


def own_file(adapter, kind: str, folder) -> Any:
    """What a run saves."""
    backbone = twin(kind)
    state = moved(adapter, backbone).state()
    settings = {"name": adapter.name} | {name: value for name, value in vars(adapter).items()}
    save_file(state, folder / "adapter.safetensors", metadata={"adapter": json.dumps(settings)})
    return backbone


def test_our_own_file_of_other_settings_or_of_another_method(tmp_path):
    tuned = own_file(Bottleneck(width=4), "llama", tmp_path)
    again = twin("llama")
    attach_initialised(Bottleneck(width=4, init=str(tmp_path)), again)
    assert torch.equal(output(again), output(tuned))
    refused(tmp_path, "--adapter.width 4, not 8", Bottleneck(width=8), "llama")
    refused(tmp_path, "holds the method 'adapter', not 'lora'", ADAPTER, "llama")
    refused(tmp_path, "holds the method 'adapter', not 'prefix'", PrefixTuning(), "llama")


def test_forms_that_a_method_has_not(tmp_path):
    with pytest.raises(AdapterError, match="no form 'kohya': choose peft"):
        exported(ADAPTER, "llama", tmp_path, "kohya")
    with pytest.raises(AdapterError, match="for one model"):
        exported(ADAPTER, "unet+clip", tmp_path, "peft")
    with pytest.raises(AdapterError, match="no form 'peft'"):
        exported(Bottleneck(), "llama", tmp_path, "peft")
    with pytest.raises(AdapterError, match="no form 'peft'"):
        exported(PrefixTuning(), "unet", tmp_path, "peft")
