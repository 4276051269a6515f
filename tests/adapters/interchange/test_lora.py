"""LoRA exported to other tools: their loaders and ours reproduce the output of the adapted model."""

import copy
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import attach
from adapters.interchange.diffusers_file import DIFFUSERS_FILE
from adapters.interchange.kohya import KOHYA_FILE
from adapters.interchange.peft_folder import PEFT_FILE
from adapters.lora import Lora
from tests.adapters.interchange.round_trip import (
    assert_same_output,
    attach_perturbed,
    export_perturbed,
    fresh_backbone,
    load_backbone,
    save_files,
)
from tests.contract import tiny
from tests.contract.tiny import output

SETTINGS = {
    "alpha": Lora(rank=4, alpha=16.0, targets=("linear",)),
    "rank-stabilised": Lora(rank=3, alpha=8.0, use_rslora=True),
    "ranks-by-role": Lora(rank=2, alpha=12.0, ranks={"query": 1, "value": 5}, targets=("linear",)),
    "query-and-value": Lora(rank=4, alpha=16.0, targets=("query", "value")),
}
EVERYWHERE = Lora(rank=4, alpha=16.0, targets=("all",), ranks={"convolution": 2, "feed-forward": 3})
FORMS = [
    ("unet+clip", "diffusers"),
    ("unet+clip", "kohya"),
    ("unet", "diffusers"),
    ("unet", "kohya"),
    ("unet", "peft"),
    ("gpt2", "peft"),
    ("llama", "peft"),
]


@pytest.fixture(params=SETTINGS)
def adapter(request) -> Lora:
    return SETTINGS[request.param]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_round_trip_keeps_the_output(adapter, kind, form, tmp_path):
    tuned, _ = export_perturbed(adapter, kind, tmp_path, form)
    assert not torch.allclose(output(tuned), output(fresh_backbone(kind)), atol=1e-2), (
        "the update changes the output visibly"
    )
    assert_same_output(load_backbone(adapter, kind, tmp_path), tuned)


@pytest.mark.parametrize("form", ["diffusers", "kohya", "peft"])
def test_round_trip_of_convolutions_and_embeddings(form, tmp_path):
    tuned, _ = export_perturbed(EVERYWHERE, "unet", tmp_path, form)
    assert_same_output(load_backbone(EVERYWHERE, "unet", tmp_path), tuned)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_peft_loads_the_folder(adapter, kind, tmp_path):
    tuned, _ = export_perturbed(adapter, kind, tmp_path)
    base = fresh_backbone(kind)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(tuned), atol=1e-5, rtol=1e-5)


def read_with_diffusers(source: Any) -> tuple[Any, Any, Any]:
    """Tensors, alphas and metadata as `pipe.load_lora_weights` reads them."""
    from diffusers import StableDiffusionPipeline

    result: Any = StableDiffusionPipeline.lora_state_dict(source, return_lora_metadata=True)
    return result


def load_into_unet(folder: Any) -> Any:
    """A fresh tiny UNet into which diffusers itself has loaded the folder."""
    from diffusers import StableDiffusionPipeline

    base = fresh_backbone("unet")
    tensors, alphas, metadata = read_with_diffusers(folder)
    StableDiffusionPipeline.load_lora_into_unet(tensors, alphas, base.model, metadata=metadata)
    return base


@pytest.mark.parametrize("name", [*SETTINGS, "everywhere"])
def test_diffusers_loads_the_folder(name, tmp_path):
    adapter = SETTINGS.get(name, EVERYWHERE)
    tuned, _ = export_perturbed(adapter, "unet", tmp_path)
    assert_same_output(load_into_unet(tmp_path), tuned)


def test_diffusers_reads_our_kohya_file(adapter, tmp_path):
    tuned, _ = export_perturbed(adapter, "unet", tmp_path, "kohya")
    assert_same_output(load_into_unet(tmp_path / KOHYA_FILE), tuned)


def adapted_by_peft(kind: str, **settings: Any) -> tuple[Any, Any]:
    """A model adapted by peft itself, with A and B drawn at random."""
    base = fresh_backbone(kind)
    theirs: Any = peft.get_peft_model(base.model, peft.LoraConfig(**settings))
    generator = torch.Generator().manual_seed(4)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return base, theirs.eval()


@pytest.mark.parametrize("use_rslora", [False, True])
def test_initialise_from_pefts_folder(use_rslora, tmp_path):
    settings = {"r": 4, "lora_alpha": 16, "use_rslora": use_rslora, "target_modules": ["q_proj", "o_proj"]}
    base, theirs = adapted_by_peft("llama", **settings, rank_pattern={"o_proj": 2}, alpha_pattern={"o_proj": 5})
    theirs.save_pretrained(tmp_path)
    ours = load_backbone(Lora(rank=4, targets=("query", "output")), "llama", tmp_path)
    torch.testing.assert_close(output(ours), output(base, theirs), atol=1e-5, rtol=1e-5)


def test_initialise_from_pefts_update_of_a_whole_fused_layer(tmp_path):
    """A dense B on c_attn is three updates with the same A."""
    base, theirs = adapted_by_peft("gpt2", r=3, lora_alpha=12, target_modules=["c_attn"], fan_in_fan_out=True)
    theirs.save_pretrained(tmp_path)
    ours = load_backbone(Lora(rank=3, alpha=6.0, targets=("query", "key", "value")), "gpt2", tmp_path)
    torch.testing.assert_close(output(ours), output(base, theirs), atol=1e-5, rtol=1e-5)


def test_initialise_from_diffusers_file(tmp_path):
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata

    base = fresh_backbone("unet")
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    base.model.add_adapter(config)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in base.model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    state: Any = peft.get_peft_model_state_dict(base.model)
    metadata = _collate_lora_metadata({"unet": base.model})
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=state, **metadata)
    assert_same_output(load_backbone(Lora(rank=4), "unet", tmp_path), base)


def test_initialise_from_early_diffusers_file(tmp_path):
    """Keys `attn1.processor.to_q_lora.down.weight`, as the first tutorial saved them; the scale was 1."""
    tuned, _ = export_perturbed(Lora(rank=4, alpha="rank"), "unet", tmp_path)
    old = {}
    for name, tensor in load_file(tmp_path / DIFFUSERS_FILE).items():
        layer, side = name.rsplit(".lora_", 1)[0], "down" if "lora_A" in name else "up"
        attention, part = layer.removeprefix("unet.").removesuffix(".0").rsplit(".", 1)
        old[f"{attention}.processor.{part}_lora.{side}.weight"] = tensor
    save_file(old, tmp_path / "old.safetensors")
    assert any("to_out_lora.up" in name for name in old)
    assert_same_output(load_backbone(Lora(rank=4), "unet", tmp_path / "old.safetensors"), tuned)


def test_handwritten_kohya_file(tmp_path):
    """One layer, alpha 16 with rank 4: the weight's change is 16 / 4 B A."""
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    file = tmp_path / "one.safetensors"
    save_file({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(16.0)}, file)
    base = fresh_backbone("unet")
    chosen = {p.name: 0 for p in base.projections("self-attention.query") if not p.name.startswith("mid_block")}
    adapter: Any = Lora(rank=4, targets=("self-attention.query",), init=str(file))
    with pytest.raises(Exception, match=f"no update for {len(chosen)} layers"):
        attach(adapter, base)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    base.projections = lambda *roles: [p for p in base.all_projections() if p.name == layer]  # type: ignore[method-assign]
    attachment: Any = attach(adapter, base)
    update = attachment.updates[layer]
    torch.testing.assert_close(update.delta(), 4 * up @ down)


def test_lower_rank_initialises_a_higher_one(tmp_path):
    tuned, _ = export_perturbed(Lora(rank=2, alpha=6.0), "unet", tmp_path)
    higher = load_backbone(Lora(rank=5, alpha=1.0), "unet", tmp_path)
    assert_same_output(higher, tuned)


@pytest.mark.parametrize("kind", tiny.BUILDERS)
def test_native_file_keeps_its_scale_under_another_alpha(kind, tmp_path):
    import json

    adapter = Lora(rank=4, alpha=16.0, targets=("query", "value"))
    tuned = fresh_backbone(kind)
    attachment = attach_perturbed(adapter, tuned)
    settings = json.dumps({"name": "lora", "alpha": 16.0, "rank": 4, "use_rslora": False})
    save_file(attachment.state(), tmp_path / "adapter.safetensors", metadata={"adapter": settings})
    assert_same_output(load_backbone(Lora(rank=4, targets=("query", "value")), kind, tmp_path), tuned)


def test_text_encoder_is_exported_under_its_own_prefix(tmp_path):
    """A task that trains both holds them as `unet` and `text_encoder` of one model."""
    from transformers import CLIPTextConfig, CLIPTextModel

    from adapters.backbone import Projection

    config = CLIPTextConfig(
        vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = CLIPTextModel(config).eval()

    def both() -> Any:
        backbone: Any = fresh_backbone("unet")
        unet_layers = [
            Projection(f"unet.{p.name}", p.module, p.role, p.in_features, p.out_features)
            for p in backbone.projections("self-attention.query")
        ]
        text = copy.deepcopy(encoder)
        backbone.model = torch.nn.ModuleDict({"unet": backbone.model, "text_encoder": text})
        layers = [
            (f"text_encoder.{name}", m) for name, m in text.named_modules() if name.endswith(("q_proj", "out_proj"))
        ]
        more = [Projection(name, module, "self-attention.query", 24, 24) for name, module in layers]
        backbone.projections = lambda *roles: [*unet_layers, *more]
        return backbone

    def states(model: Any) -> torch.Tensor:
        return model(input_ids=torch.arange(8)[None]).last_hidden_state

    tuned = both()
    attachment = attach_perturbed(Lora(rank=4, alpha=16.0), tuned)
    expected = states(tuned.model["text_encoder"])
    assert not torch.allclose(expected, states(encoder), atol=1e-2)
    for form in ("diffusers", "kohya"):
        file = save_files(attachment.export(form), tmp_path / form)[0]
        again = both()
        attach(Lora(rank=4, init=str(file)), again)
        torch.testing.assert_close(states(again.model["text_encoder"]), expected, atol=1e-5, rtol=1e-5)
        from diffusers import StableDiffusionPipeline

        theirs: Any = copy.deepcopy(encoder)
        tensors, alphas, metadata = read_with_diffusers(file)
        StableDiffusionPipeline.load_lora_into_text_encoder(tensors, alphas, theirs, metadata=metadata)
        torch.testing.assert_close(states(theirs), expected, atol=1e-5, rtol=1e-5)


def test_peft_folder_equals_what_peft_saves(tmp_path):
    export_perturbed(SETTINGS["alpha"], "llama", tmp_path)
    theirs = peft.PeftModel.from_pretrained(fresh_backbone("llama").model, tmp_path)
    theirs.save_pretrained(tmp_path / "again")
    first, second = load_file(tmp_path / PEFT_FILE), load_file(tmp_path / "again" / PEFT_FILE)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
