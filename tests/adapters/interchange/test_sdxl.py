"""LoRA files of Stable Diffusion XL: names of diffusers and kohya, read by diffusers' own pipeline class and by us."""

import re
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from adapters.base import attach
from adapters.errors import AdapterError
from adapters.interchange import kohya
from adapters.interchange.layer_names import aliases, model_names
from adapters.lora import Lora
from tests.adapters.interchange.round_trip import (
    assert_same_output,
    export_perturbed,
    fresh_backbone,
    load_backbone,
)
from tests.contract.tiny import output

KINDS = ("xl", "xl+clips")
CASES = {
    "attention": Lora(rank=4, alpha=8.0, targets=("attention",)),
    "linear, ranks by role": Lora(rank=4, alpha=6.0, targets=("linear",), ranks={"query": 2}),
    "everywhere": Lora(rank=4, alpha=8.0, targets=("all",), ranks={"convolution": 3}),
}


def applied_by_diffusers(kind: str, source: Any) -> Any:
    """A fresh model into which StableDiffusionXLPipeline's parts have loaded the file."""
    base: Any = fresh_backbone(kind)
    load: Any = StableDiffusionXLPipeline
    tensors, alphas, metadata = load.lora_state_dict(
        str(source), unet_config=base.unet.config, return_lora_metadata=True
    )
    load.load_lora_into_unet(tensors, alphas, base.unet, metadata=metadata)
    for name in ("text_encoder", "text_encoder_2") if kind == "xl+clips" else ():
        encoder = getattr(base, name)
        load.load_lora_into_text_encoder(tensors, alphas, encoder, prefix=name, metadata=metadata)
    return base


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_diffusers_applies_our_files_and_we_read_them_back(case, kind, format, tmp_path):
    tuned, _ = export_perturbed(CASES[case], kind, tmp_path, format)
    (file,) = tmp_path.iterdir()
    assert (output(tuned) - output(fresh_backbone(kind))).abs().max() > 0.1
    assert_same_output(load_backbone(CASES[case], kind, file), tuned)
    assert_same_output(applied_by_diffusers(kind, file), tuned)


def test_kohyas_names_are_those_of_its_own_sdxl_files(tmp_path):
    """The original code's layers, and lora_te1, lora_te2 (kohya-ss/sd-scripts, networks/lora.py)."""
    export_perturbed(CASES["everywhere"], "xl+clips", tmp_path, "kohya")
    names = {name.partition(".")[0] for name in load_file(tmp_path / kohya.KOHYA_FILE)}
    assert {
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q",
        "lora_unet_middle_block_1_transformer_blocks_1_ff_net_2",
        "lora_unet_label_emb_0_0",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te2_text_model_encoder_layers_1_mlp_fc1",
    } <= names
    assert not [name for name in names if re.match("lora_te_|lora_unet_(down|mid|up)_", name)]
    assert not [name for name in names if name.startswith("lora_te1_text_model_encoder_layers_1")], "nothing reads it"


@pytest.mark.parametrize(
    ("unet", "first", "second"),
    [
        ("unet.", "text_encoder.text_model.", "text_encoder_2.text_model."),
        (
            "diffusion_model.",
            "text_encoders.clip_l.transformer.text_model.",
            "text_encoders.clip_g.transformer.text_model.",
        ),
        ("lora_unet.", "lora_te1.text_model.", "lora_te2.text_model."),
    ],
    ids=["diffusers", "ComfyUI", "OneTrainer"],
)
def test_names_of_other_tools_are_read(unet, first, second, tmp_path):
    adapter = CASES["attention"]
    tuned, attachment = export_perturbed(adapter, "xl+clips", tmp_path)
    prefixes = {"unet.": unet, "text_encoder.": first, "text_encoder_2.text_model.": second}
    tensors = {}
    for name, update in attachment.updates.items():  # type: ignore[attr-defined]
        own = next(prefix for prefix in prefixes if name.startswith(prefix))
        key = prefixes[own] + name.removeprefix(own)
        tensors |= {f"{key}.lora_down.weight": update.down.detach(), f"{key}.lora_up.weight": update.up.detach()}
        tensors[f"{key}.alpha"] = torch.tensor(8.0)
    save_file(tensors, tmp_path / "renamed.safetensors")
    assert_same_output(load_backbone(adapter, "xl+clips", tmp_path / "renamed.safetensors"), tuned)


def test_no_two_layers_share_a_name():
    backbone = fresh_backbone("xl+clips")
    names = [name for name, _ in backbone.model.named_modules() if name] + list(backbone.unread)
    every = [alias for name in names for alias in set(aliases(name, backbone))]
    assert len(every) == len(set(every)) == len(model_names(backbone))


@pytest.mark.parametrize(
    ("layer", "kind", "sentence"),
    [
        (
            "lora_te2_text_model_encoder_layers_0_mlp_fc1",
            "xl",
            "set --task.train-text-encoder, or remove these tensors",
        ),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            "xl",
            "set --task.train-text-encoder, or remove these tensors",
        ),
        ("text_encoder_2.encoder.layers.0.mlp.fc1", "unet", "the second text encoder of a Stable Diffusion XL"),
        ("lora_te3_encoder_block_0_layer_0", "xl", "it is for a text encoder that Stable Diffusion lacks"),
    ],
)
def test_text_encoders_that_do_not_train(layer, kind, sentence, tmp_path):
    tensors = {f"{layer}.lora_down.weight": torch.ones(4, 8), f"{layer}.lora_up.weight": torch.ones(8, 4)}
    save_file(tensors, tmp_path / "text.safetensors")
    with pytest.raises(AdapterError, match=re.escape(sentence)):
        attach(Lora(rank=4, targets=("query",), init=str(tmp_path / "text.safetensors")), fresh_backbone(kind))


def test_pefts_folder_is_for_the_unet_alone(tmp_path):
    attachment = attach(Lora(rank=2), fresh_backbone("xl+clips"))
    with pytest.raises(AdapterError, match="for one model, not a UNet with its text encoder"):
        attachment.export("peft")


@pytest.mark.parametrize("name", ["text_encoder.text_model.", "lora_te1_text_model_"])
def test_updates_of_the_layer_that_nothing_reads_are_left_out(name, tmp_path):
    """diffusers' and kohya's trainings write them too: the first encoder's last layer has no effect in SDXL."""
    adapter = CASES["attention"]
    tuned, _ = export_perturbed(adapter, "xl+clips", tmp_path, "kohya")
    layer = f"{name}encoder.layers.1.self_attn.q_proj"
    layer = layer.replace(".", "_") if name.startswith("lora") else layer
    more = {f"{layer}.lora_down.weight": torch.ones(4, 24), f"{layer}.lora_up.weight": torch.ones(24, 4)}
    save_file(load_file(tmp_path / kohya.KOHYA_FILE) | more, tmp_path / "more.safetensors")
    assert_same_output(load_backbone(adapter, "xl+clips", tmp_path / "more.safetensors"), tuned)
