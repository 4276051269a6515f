"""The table of the interchange: the largest error of the output, whoever wrote the file and whoever applies it.

`python -m pytest -s tests/adapters/interchange/test_exchange_table.py` prints it. Writers are diffusers, peft and a
file put together by hand in kohya's naming; the reference is the writer's own model (for the file by hand, weights
changed by the product of the factors). Readers are this project, this project's export in every format read back by
this project, and that export applied by diffusers or peft.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from safetensors.torch import load_file, save_file
from tabulate import tabulate

from adapters.base import attach
from adapters.lora import Lora
from tests.adapters.interchange.round_trip import fresh_backbone, load_backbone, save_files
from tests.contract.tiny import output

TOLERANCE = 1e-5  # relative to the largest output
SPREAD = 0.15  # of the factors: the updates are then of the size of the weights
READERS = ("read", "diffusers back", "kohya back", "peft back")
APPLIED = ("diffusers: diffusers", "diffusers: kohya", "peft: peft")
# ranks and alphas by role; every layer, convolutions and embeddings too, in "everywhere"
CASES = {
    "one rank, alpha = rank": {"targets": ("attention",), "rank": 4, "alpha": "rank"},
    "alpha 16": {"targets": ("attention",), "rank": 4, "alpha": 16.0},
    "ranks by role": {"targets": ("attention",), "rank": 4, "ranks": {"query": 2}},
    "ranks by role, alpha 6": {"targets": ("linear",), "rank": 4, "ranks": {"query": 1, "value": 5}, "alpha": 6.0},
    "rsLoRA, ranks by role": {
        "targets": ("linear",),
        "rank": 4,
        "ranks": {"query": 1},
        "alpha": 6.0,
        "use_rslora": True,
    },
    "everywhere": {"targets": ("all",), "rank": 4, "ranks": {"query": 2, "convolution": 3}, "alpha": 6.0},
}
KINDS = {"unet": "UNet", "unet+clip": "UNet + text encoder"}
ROWS: list[tuple[Any, ...]] = []


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n" + tabulate(ROWS, ["written by", "model", "what", *READERS, *APPLIED], floatfmt=".0e", missingval="-"))


def ranks_and_alphas(kind: str, settings: dict[str, Any]) -> dict[str, tuple[int, float, Any]]:
    """Rank, scale and projection of every layer, by the layer's name."""
    backbone, adapter = fresh_backbone(kind), Lora(**settings)
    chosen = backbone.projections(*adapter.targets)
    return {p.name: (adapter.rank_of(p), adapter.scaling(adapter.rank_of(p)), p) for p in chosen}


def factors(kind: str, settings: dict[str, Any]) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """A, B and scale of every layer, at random."""
    generator, layers = torch.Generator().manual_seed(4), {}
    for name, (rank, scale, p) in ranks_and_alphas(kind, settings).items():
        kernel = tuple(p.module.weight.shape[2:])
        down = SPREAD * torch.randn(rank, p.in_features, *kernel, generator=generator)
        layers[name] = (
            down,
            SPREAD * torch.randn(p.out_features, rank, *[1] * len(kernel), generator=generator),
            scale,
        )
    return layers


def tuned_by_hand(kind: str, layers: dict[str, Any]) -> Any:
    """A model whose weights are changed by scale * B A."""
    backbone = fresh_backbone(kind)
    with torch.no_grad():
        for name, (down, up, scale) in layers.items():
            weight = backbone.model.get_submodule(name).weight
            weight += scale * (up.flatten(1) @ down.flatten(1)).view_as(weight)
    return backbone


def written_by_hand(kind: str, settings: dict[str, Any], folder: Path) -> Path:
    """kohya's naming, with an alpha beside the factors of every layer."""
    tensors = {}
    for name, (down, up, scale) in factors(kind, settings).items():
        inside = name.removeprefix("unet.")
        key = (
            f"lora_te_text_model_{inside.removeprefix('text_encoder.')}"
            if inside.startswith("text_encoder.")
            else f"lora_unet_{inside}"
        ).replace(".", "_")
        tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = down, up
        tensors[f"{key}.alpha"] = torch.tensor(scale * len(down))
    save_file(tensors, folder / "by-hand.safetensors")
    return folder / "by-hand.safetensors"


def peft_config(layers: dict[str, Any], rslora: bool) -> peft.LoraConfig:
    """The same ranks and scales as peft's patterns; alpha is what gives the scale under either rule."""
    ranks = {name: len(down) for name, (down, _, _) in layers.items()}
    alphas = {name: scale * (ranks[name] ** 0.5 if rslora else ranks[name]) for name, (_, _, scale) in layers.items()}
    pattern = {"rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": list(layers), "use_rslora": rslora}
    return peft.LoraConfig(r=4, lora_alpha=4, **pattern)


def fill(model: Any, layers: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, (down, up, _) in layers.items():
            layer = model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)


def written_by_diffusers(kind: str, settings: dict[str, Any], folder: Path) -> Path:
    """`save_lora_weights` of a UNet and, if it trains, of the text encoder."""
    layers, backbone = factors(kind, settings), fresh_backbone(kind)
    parts = (
        {"unet": backbone.model}
        if kind == "unet"
        else {"unet": backbone.model.unet, "text_encoder": backbone.model.text_encoder}
    )
    states = {}
    for part, model in parts.items():
        own = {n.removeprefix(f"{part}."): f for n, f in layers.items() if kind == "unet" or n.startswith(f"{part}.")}
        model.add_adapter(peft_config(own, bool(settings.get("use_rslora"))), adapter_name="default")
        fill(model, own)
        states[f"{part}_lora_layers"] = peft.get_peft_model_state_dict(model, adapter_name="default")
    StableDiffusionPipeline.save_lora_weights(folder, **states, **_collate_lora_metadata(parts))
    return folder


def written_by_peft(kind: str, settings: dict[str, Any], folder: Path) -> Path:
    layers = factors(kind, settings)
    wrapped = peft.get_peft_model(fresh_backbone(kind).model, peft_config(layers, bool(settings.get("use_rslora"))))
    fill(wrapped.base_model.model, layers)
    wrapped.save_pretrained(str(folder))
    return folder


WRITERS = {"diffusers": written_by_diffusers, "peft": written_by_peft, "by hand": written_by_hand}


def applied_by_diffusers(kind: str, source: Path) -> Any:
    """A fresh model into which diffusers has loaded the file."""
    read: Any = StableDiffusionPipeline.lora_state_dict(str(source), return_lora_metadata=True)
    tensors, alphas, metadata = read
    base = fresh_backbone(kind)
    unet = base.model if kind == "unet" else base.model.unet
    load: Any = StableDiffusionPipeline
    load.load_lora_into_unet(tensors, alphas, unet, metadata=metadata)
    if kind != "unet":
        load.load_lora_into_text_encoder(tensors, alphas, base.model.text_encoder, metadata=metadata)
    return base


def applied_by_peft(kind: str, source: Path) -> Any:
    base = fresh_backbone(kind)
    base.model = peft.PeftModel.from_pretrained(base.model, source).base_model.model
    return base


def error(model: Any, reference: torch.Tensor) -> float:
    return (output(model) - reference).abs().max().item()


# peft's folder is for one model
WHO = [(writer, kind) for writer in WRITERS for kind in KINDS if (writer, kind) != ("peft", "unet+clip")]
SIMPLER = ("one rank, alpha = rank", "alpha 16", "ranks by role")  # the other cases combine them


@pytest.mark.parametrize(("writer", "kind"), WHO)
@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c in SIMPLER)) for c in CASES])
def test_output_is_that_of_the_writers_model(case, writer, kind, tmp_path):
    settings = CASES[case]
    reference = output(tuned_by_hand(kind, factors(kind, settings)))
    assert (reference - output(fresh_backbone(kind))).abs().max() > 0.1, "the update changes the output visibly"
    (tmp_path / "source").mkdir()
    source = WRITERS[writer](kind, settings, tmp_path / "source")
    assert_every_reader_agrees((writer, KINDS[kind], case), Lora(**settings), kind, source, reference)


def assert_every_reader_agrees(what: tuple, settings: Lora, kind: str, source: Path, reference: torch.Tensor) -> None:
    """Read the file, export it in every format, read these back and apply them; adds a row to the table."""
    local = replace(settings, alpha=1.0, use_rslora=False)  # the scale is the file's
    errors: dict[str, float] = {"read": error(load_backbone(local, kind, source), reference)}
    attachment = attach(replace(local, init=str(source)), fresh_backbone(kind))
    for form in ("diffusers", "kohya", "peft") if kind == "unet" else ("diffusers", "kohya"):
        folder = source.parent / f"as-{form}"
        file = save_files(attachment.export(form), folder)[0]
        errors[f"{form} back"] = error(load_backbone(local, kind, folder), reference)
        theirs = applied_by_peft(kind, folder) if form == "peft" else applied_by_diffusers(kind, file)
        errors[f"peft: {form}" if form == "peft" else f"diffusers: {form}"] = error(theirs, reference)
    ROWS.append((*what, *(errors.get(reader) for reader in (*READERS, *APPLIED))))
    assert max(errors.values()) < TOLERANCE * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [({"ss_network_alpha": "8.0"}, 2.0), ({"alpha": "2"}, 0.5), ({"lora_alpha": "16"}, 4.0), ({}, 1.0)],
    ids=lambda value: json.dumps(value),
)
def test_alpha_in_the_metadata_alone(metadata, scale, tmp_path):
    """kohya's naming without alphas beside the factors."""
    settings = {"targets": ("attention",), "rank": 4, "alpha": 4 * scale}
    tensors = load_file(written_by_hand("unet", settings, tmp_path))
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    save_file(plain, tmp_path / "plain.safetensors", metadata=metadata or None)
    what = ("by hand", "UNet", f"metadata {json.dumps(metadata)} alone")
    reference = output(tuned_by_hand("unet", factors("unet", settings)))
    assert_every_reader_agrees(what, Lora(**settings), "unet", tmp_path / "plain.safetensors", reference)
