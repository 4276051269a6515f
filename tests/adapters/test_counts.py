"""Published parameter counts, reproduced exactly on models of the published sizes on the meta device."""

from functools import cache
from typing import Any

import pytest
import torch

from adapters.backbone import Backbone, Block, Sublayer
from adapters.base import Adapter
from adapters.bottleneck import Bottleneck
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from tasks.language.model.backbone import CausalLanguageModel
from tests.contract import tiny

SIZES = {"M": (1024, 24, 16), "L": (1280, 36, 20)}


@cache
def gpt2_of_size(size: str) -> Backbone:
    width, layers, heads = SIZES[size]
    with torch.device("meta"):
        model: Any = tiny.gpt2(width, layers, heads, vocab_size=50257, n_positions=1024)
    model.tie_weights()
    return CausalLanguageModel(model)


def count(adapter: Adapter, backbone: Backbone) -> int:
    with torch.device("meta"):
        attachment = adapter.attach(backbone)
    counted = sum(parameter.numel() for parameter in attachment.parameters().values())
    for update in getattr(attachment, "updates", {}).values():
        update.remove()
    return counted


@pytest.mark.parametrize(
    ("size", "adapter", "expected"),
    [
        ("M", Lora(rank=4, targets=("query", "value")), 393_216),
        ("L", Lora(rank=4, targets=("query", "value")), 737_280),
        ("M", Bottleneck(width=6, placement="pfeiffer", layer_norm=True), 368_784),
        ("M", Bottleneck(width=224, placement="pfeiffer", layer_norm=True), 11_089_152),
        ("L", Bottleneck(width=8, placement="pfeiffer", layer_norm=True), 875_808),
        ("L", Bottleneck(width=248, placement="pfeiffer", layer_norm=True), 23_002_848),
    ],
)
def test_gpt2_medium_and_large(size, adapter, expected):
    assert count(adapter, gpt2_of_size(size)) == expected
    assert adapter.parameter_count(gpt2_of_size(size)) == expected


@pytest.mark.parametrize(("size", "expected"), [("M", 354_823_168), ("L", 774_030_080)])
def test_all_weights(size, expected):
    assert sum(parameter.numel() for parameter in gpt2_of_size(size).model.parameters()) == expected


def test_top_two_blocks_of_gpt2_medium():
    chosen = FullFinetuning(top_blocks=2).attach(gpt2_of_size("M")).parameters()
    assert sum(parameter.numel() for parameter in chosen.values()) == 25_192_448


class Gpt3(Backbone):
    """The dimensions of GPT-3 175B without a model, for formulas."""

    library = "transformers"

    @property
    def width(self) -> int:
        return 12288

    @property
    def positions(self) -> int:
        return 2048

    def all_projections(self):
        raise NotImplementedError

    def attention_layers(self):
        raise NotImplementedError

    def example_input(self, generator=None):
        raise NotImplementedError

    def blocks(self) -> list[Block]:
        sublayers = tuple(Sublayer(kind, None, kind, self.width) for kind in ("self-attention", "feed-forward"))
        return [Block(str(index), None, sublayers) for index in range(96)]


@pytest.mark.parametrize(
    ("width", "expected"),
    [(1, 7_078_080), (4, 21_234_432), (8, 40_109_568), (16, 77_859_840), (64, 304_361_472)],
)
def test_houlsby_adapters_of_gpt3(width, expected):
    assert Bottleneck(width=width).parameter_count(Gpt3()) == expected
