"""Files of other tools: every naming, alpha in every place, formats of numbers, and what is refused by name."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import attach
from adapters.errors import AdapterError
from adapters.interchange import kohya
from adapters.interchange.layer_names import aliases, model_names
from adapters.interchange.lora_scales import METADATA
from adapters.lora import Lora
from tests.adapters.interchange.round_trip import (
    assert_same_output,
    export_perturbed,
    fresh_backbone,
    load_backbone,
)
from tests.contract.tiny import output

EVERYWHERE = Lora(rank=4, alpha=8.0, targets=("all",), ranks={"query": 2, "convolution": 3})
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KEY = f"lora_unet_{LAYER.replace('.', '_')}"


def original_name(name: str) -> str:
    """The name in the code of latent diffusion, for the tiny UNet: two levels of one layer, attention in the second."""
    names = {
        "conv_in": "input_blocks.0.0",
        "down_blocks.0.resnets.0.": "input_blocks.1.0.",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
        "down_blocks.1.resnets.0.": "input_blocks.3.0.",
        "down_blocks.1.attentions.0.": "input_blocks.3.1.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
        "up_blocks.0.resnets.0.": "output_blocks.0.0.",
        "up_blocks.0.attentions.0.": "output_blocks.0.1.",
        "up_blocks.0.resnets.1.": "output_blocks.1.0.",
        "up_blocks.0.attentions.1.": "output_blocks.1.1.",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
        "up_blocks.1.resnets.0.": "output_blocks.2.0.",
        "up_blocks.1.resnets.1.": "output_blocks.3.0.",
        "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
    }
    inner = {
        "conv1": "in_layers.2",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    }
    start = next(start for start in names if name.startswith(start))
    rest = name.removeprefix(start)
    return names[start] + (inner.get(rest, rest) if "resnets" in start else rest)


def dots(prefix: str, text: str, original: bool = False) -> Callable[[str], str]:
    """A naming with dots; `prefix` is the UNet's and `text` the text encoder's."""
    return lambda name: (
        text + name.removeprefix("text_encoder.")
        if name.startswith("text_encoder.")
        else prefix + (original_name if original else str)(name.removeprefix("unet."))
    )


def underscores(prefix: str, text: str, original: bool = False) -> Callable[[str], str]:
    """kohya's way: the prefix, then the name with underscores."""
    dotted = dots("", "|", original)
    return lambda name: (text + dotted(name)[1:] if dotted(name).startswith("|") else prefix + dotted(name)).replace(
        ".", "_"
    )


NAMINGS = {
    "kohya": underscores("lora_unet_", "lora_te_text_model_"),
    "kohya, original code": underscores("lora_unet_", "lora_te1_text_model_", original=True),
    "OneTrainer": dots("lora_unet.", "lora_te.text_model."),
    "OneTrainer, OMI": dots("unet.", "clip_l.text_model.", original=True),
    "ComfyUI": dots("diffusion_model.", "text_encoders.clip_l.transformer.text_model.", original=True),
    "LyCORIS": underscores("lycoris_", "lora_te_text_model_"),
    "diffusers": dots("unet.", "text_encoder.text_model."),
    "bare": dots("", "text_encoder."),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("sides", [("lora_down", "lora_up"), ("lora_A", "lora_B")])
@pytest.mark.parametrize("kind", ["unet", "unet+clip"])
def test_every_naming_is_read(naming, sides, kind, tmp_path):
    """All layers of our own export, renamed; alpha beside the factors."""
    tuned, attachment = export_perturbed(EVERYWHERE, kind, tmp_path)
    down, up = sides
    renamed = {}
    for name, update in attachment.updates.items():  # type: ignore[attr-defined]
        key = NAMINGS[naming](name)
        renamed[f"{key}.{down}.weight"] = update.down.detach().clone()
        renamed[f"{key}.{up}.weight"] = update.up.detach().clone()
        renamed[f"{key}.alpha"] = torch.tensor(8.0)
    save_file(renamed, tmp_path / "renamed.safetensors")
    assert_same_output(load_backbone(EVERYWHERE, kind, tmp_path / "renamed.safetensors"), tuned)


def test_original_names_are_those_that_diffusers_converts(unet):
    """diffusers' reader of single-file checkpoints maps each original name to the layer that we give it to."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    names = [p.name for p in unet.all_projections()]
    originals = {
        name: alias.removeprefix("diffusion_model.")
        for name in names
        for alias in aliases(name, unet)
        if alias.startswith("diffusion_model.") and alias != f"diffusion_model.{name}"
    }
    assert originals.keys() == set(names)
    numbers = {original: torch.full((1,), float(names.index(name))) for name, original in originals.items()}
    numbers["out.0"] = torch.zeros(1)  # a norm
    checkpoint = {f"model.diffusion_model.{o}.{part}": n for o, n in numbers.items() for part in ("weight", "bias")}
    config = dict(unet.model.config) | {"class_embed_type": None, "addition_embed_type": None}
    converted = convert_ldm_unet_checkpoint(checkpoint, config)
    for name in names:
        assert converted[f"{name}.weight"].item() == names.index(name), name


def test_no_two_layers_share_a_name():
    for kind in ("unet", "unet+clip", "gpt2"):
        backbone = fresh_backbone(kind)
        every = [alias for name, _ in backbone.model.named_modules() if name for alias in set(aliases(name, backbone))]
        assert len(every) == len(set(every)) == len(model_names(backbone))


def one_layer(**settings) -> tuple[Any, Lora]:
    """A tiny UNet of which only one layer is a target."""
    backbone: Any = fresh_backbone("unet")
    backbone.projections = lambda *roles: [p for p in backbone.all_projections() if p.name == LAYER]
    return backbone, Lora(rank=4, targets=("self-attention.query",), **settings)


CONFIG = {"unet.r": 4, "unet.lora_alpha": 16, "unet.target_modules": ["to_q"]}


@pytest.mark.parametrize(
    ("key", "alpha", "metadata", "scale"),
    [
        (KEY, None, {}, 1),
        (KEY, 16.0, {}, 4),
        (KEY, 0.0, {}, 1),  # kohya: zero means the rank
        (KEY, None, {"ss_network_alpha": "16.0", "ss_network_dim": "4"}, 4),
        (KEY, None, {"ss_network_alpha": "None"}, 1),
        (KEY, 8.0, {"ss_network_alpha": "Dynamic"}, 2),  # what kohya's resizing writes, beside the alphas
        (KEY, 8.0, {"ss_network_alpha": "16"}, 2),
        (f"unet.{LAYER}", None, {"alpha": "16"}, 4),
        (f"unet.{LAYER}", None, {"lora_alpha": "2"}, 0.5),
        (f"unet.{LAYER}", None, {"lora_alpha": "16", "alpha": "16.0"}, 4),
        (f"unet.{LAYER}", None, {METADATA: json.dumps(CONFIG)}, 4),
        (f"unet.{LAYER}", None, {METADATA: json.dumps(CONFIG | {"unet.alpha_pattern": {"attn1.to_q": 2}})}, 0.5),
        (f"unet.{LAYER}", None, {METADATA: json.dumps(CONFIG | {"unet.use_rslora": True})}, 8),
        (f"unet.{LAYER}", 8.0, {METADATA: json.dumps(CONFIG)}, 2),
    ],
)
def test_alpha_in_any_place(key, alpha, metadata, scale, tmp_path):
    """The change of the weight is scale * B A, computed by hand."""
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
    tensors |= {} if alpha is None else {f"{key}.alpha": torch.tensor(alpha)}
    save_file(tensors, tmp_path / "one.safetensors", metadata=metadata or None)
    backbone, adapter = one_layer(init=str(tmp_path / "one.safetensors"))
    attachment: Any = attach(adapter, backbone)
    torch.testing.assert_close(attachment.updates[LAYER].delta(), scale * up @ down)


def test_what_alpha_0_means_is_printed(tmp_path, capsys):
    export_perturbed(replace(EVERYWHERE, ranks={}), "unet", tmp_path, "kohya")
    file = tmp_path / kohya.KOHYA_FILE
    tensors = load_file(file)
    load_backbone(replace(EVERYWHERE, ranks={}), "unet", file)
    assert "alpha" not in capsys.readouterr().err
    save_file({n: torch.zeros(()) if n.endswith(".alpha") else t for n, t in tensors.items()}, file)
    load_backbone(replace(EVERYWHERE, ranks={}), "unet", file)
    assert capsys.readouterr().err.count("layers with alpha 0, which is read as the layer's rank: scale 1") == 1


def test_alpha_of_convolutions_in_the_metadata(tmp_path):
    """kohya's `conv_alpha` holds for kernels larger than 1x1."""
    adapter = Lora(rank=2, alpha="rank", targets=("linear", "convolution"))
    _, attachment = export_perturbed(adapter, "unet", tmp_path, "kohya")
    file = tmp_path / kohya.KOHYA_FILE
    plain = {name: tensor for name, tensor in load_file(file).items() if not name.endswith(".alpha")}
    arguments = json.dumps({"conv_dim": "2", "conv_alpha": "1"})
    save_file(plain, file, metadata={"ss_network_alpha": "6", "ss_network_args": arguments})
    loaded: Any = attach(replace(adapter, init=str(file)), fresh_backbone("unet"))
    for name, update in attachment.updates.items():  # type: ignore[attr-defined]
        scale = 0.5 if update.is_convolution and update.down.shape[-1] == 3 else 3
        torch.testing.assert_close(loaded.updates[name].delta(), scale * update.delta())


@pytest.mark.parametrize("metadata", [{"alpha": "high"}, {"alpha": "nan"}, {"alpha": "4", "lora_alpha": "8"}])
def test_alpha_that_is_not_one_number_is_refused(metadata, tmp_path):
    tensors = {f"{KEY}.lora_down.weight": torch.ones(4, 32), f"{KEY}.lora_up.weight": torch.ones(32, 4)}
    save_file(tensors, tmp_path / "one.safetensors", metadata=metadata)
    backbone, adapter = one_layer(init=str(tmp_path / "one.safetensors"))
    with pytest.raises(AdapterError, match="expected one number: correct its metadata"):
        attach(adapter, backbone)


@pytest.mark.parametrize("form", ["float8_e4m3fn", "float8_e5m2", "float16", "bfloat16"])
def test_every_format_of_numbers_is_read(form, tmp_path):
    dtype = getattr(torch, form)
    down, up = torch.randn(4, 32).to(dtype), torch.randn(32, 4).to(dtype)
    save_file({f"{KEY}.lora_down.weight": down, f"{KEY}.lora_up.weight": up}, tmp_path / "one.safetensors")
    backbone, adapter = one_layer(init=str(tmp_path / "one.safetensors"))
    attachment: Any = attach(adapter, backbone)
    torch.testing.assert_close(attachment.updates[LAYER].delta(), up.float() @ down.float())


def test_a_named_adapter_is_read_and_several_are_refused(tmp_path):
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    tensors = {f"unet.{LAYER}.lora_A.anna.weight": down, f"unet.{LAYER}.lora_B.anna.weight": up}
    save_file(tensors, tmp_path / "one.safetensors")
    backbone, adapter = one_layer(init=str(tmp_path / "one.safetensors"))
    attachment: Any = attach(adapter, backbone)
    torch.testing.assert_close(attachment.updates[LAYER].delta(), up @ down)
    more = {name.replace("anna", "bert"): tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors | more, tmp_path / "two.safetensors")
    assert_refused(tmp_path / "two.safetensors", "holds several adapters (anna, bert): save one of them")


def assert_refused(file: Any, sentence: str, kind: str = "unet") -> None:
    backbone = fresh_backbone(kind)
    with pytest.raises(AdapterError, match=re.escape(sentence)) as error:
        attach(Lora(rank=4, targets=("query",), init=str(file)), backbone)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("dora_scale", "a DoRA"),
        ("lora_magnitude_vector.weight", "a DoRA"),
        ("hada_w1_a", "a LoHa"),
        ("lokr_w1", "a LoKr"),
        ("lora_mid.weight", "a LoCon with a Tucker decomposition"),
        ("diff", "a difference of whole weights"),
        ("lora_up.bias", "a LoRA with biases"),
        ("something", "more than a plain LoRA"),
    ],
)
def test_other_methods_are_refused_by_name(tensor, kind, tmp_path):
    tensors = {f"{KEY}.lora_down.weight": torch.ones(4, 32), f"{KEY}.lora_up.weight": torch.ones(32, 4)}
    save_file(tensors | {f"{KEY}.{tensor}": torch.ones(4)}, tmp_path / "other.safetensors")
    assert_refused(tmp_path / "other.safetensors", f"is {kind} (it holds '{KEY}.{tensor}'), and only plain LoRA")


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "it is for a diffusion transformer"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "it is for a diffusion transformer"),
        ("diffusion_model.joint_blocks.0.x_block.attn.qkv", "it is for a diffusion transformer"),
        (
            "diffusion_model.input_blocks.77.1.transformer_blocks.0.attn1.to_q",
            "it is for a UNet, in the names of Comfy",
        ),
        ("lycoris_down_blocks_7_attentions_0_to_q", "it is for a UNet, in the names of LyCORIS"),
        ("lora_unet_down_blocks_7_attentions_0_to_q", "it is for a UNet, in the names of kohya and OneTrainer"),
        ("unet.down_blocks.7.attentions.0.to_q", "it is for a UNet, in the names of diffusers"),
        ("model.layers.0.self_attn.q_proj", "it is for a language model, in the names of transformers"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "it is for the second text encoder of a Stable Diffusion XL"),
        ("stage.weird", "it is for another model"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", "also updates the text encoder (1 layers"),
        ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "set --task.train-text-encoder, or remove these tensors"),
    ],
)
def test_a_file_for_another_model_says_for_which(layer, sentence, tmp_path):
    tensors = {f"{layer}.lora_down.weight": torch.ones(4, 8), f"{layer}.lora_up.weight": torch.ones(8, 4)}
    save_file(tensors, tmp_path / "foreign.safetensors")
    assert_refused(tmp_path / "foreign.safetensors", sentence)


def test_a_layer_under_two_names_is_refused(tmp_path):
    names = (KEY, f"unet.{LAYER}")
    tensors = {f"{name}.{side}.weight": torch.ones(4, 4) for name in names for side in ("lora_down", "lora_up")}
    save_file(tensors, tmp_path / "twice.safetensors")
    assert_refused(tmp_path / "twice.safetensors", "updates one layer twice")


def test_a_text_encoder_in_the_file_is_read_if_it_trains(tmp_path):
    adapter = Lora(rank=2, alpha=4.0)
    tuned, _ = export_perturbed(adapter, "unet+clip", tmp_path, "kohya")
    assert_same_output(load_backbone(adapter, "unet+clip", tmp_path), tuned)
    assert not torch.allclose(output(tuned), output(fresh_backbone("unet+clip")), atol=1e-2)
