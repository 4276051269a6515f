"""The learning rates of published bases: one for each method that has a source, and LoRA's fits the default alpha."""

import math

import pytest
from peft import LoraConfig
from torch import nn

from adapters.backbone import Projection
from adapters.bottleneck import Bottleneck
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora, LowRankUpdate
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from adapters.subspace import Subspace
from experiments.config import RunConfig
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd

GPT2, POKEMON, DREAMBOOTH = EndToEnd(base="gpt2"), Pokemon(base="sd-2-1"), DreamBooth(base="sd-2-1")


def rate(adapter, task) -> float:
    config = RunConfig(adapter, task).resolved()
    assert config.learning_rate_source == "card"
    return config.train.learning_rate or 0.0


@pytest.mark.parametrize(
    ("task", "adapter", "expected"),
    [
        (POKEMON, Lora(), 1e-4),
        (POKEMON, FullFinetuning(), 1e-5),
        (POKEMON, Bottleneck(), 1e-4),  # no source
        (DREAMBOOTH, Lora(), 1e-4),
        (DREAMBOOTH, FullFinetuning(), 5e-6),
        (DREAMBOOTH, PeftMethod(method="boft"), 3e-5),
        (GPT2, FullFinetuning(), 5e-5),
        (GPT2, Bottleneck(), 1e-4),
        (GPT2, PrefixTuning(), 5e-3),
        (GPT2, PeftMethod(method="vera"), 2e-2),
        (GPT2, PeftMethod(method="ia3"), 3e-3),
        (GPT2, PeftMethod(method="hira"), 2e-4),  # no source
    ],
)
def test_rates_are_those_of_their_sources(task, adapter, expected):
    assert rate(adapter, task) == expected


@pytest.mark.parametrize(("adapter", "alpha"), [(Lora(), Lora().alpha), (PeftMethod(), LoraConfig().lora_alpha)])
def test_loras_rate_on_gpt2_fits_its_alpha(adapter, alpha):
    """The paper's 2e-4 is for alpha 32. At a lower alpha, equal moves of A and B give the lower bound, and an equal
    effect of Adam's first step the upper one."""
    ratio = 32 / alpha
    assert 2e-4 * math.sqrt(ratio) <= rate(adapter, GPT2) <= 2e-4 * ratio


@pytest.mark.parametrize(("features", "expected"), [(320, 0.52), (640, 0.37), (1280, 0.26)])
def test_the_first_step_of_lora_on_stable_diffusion_is_no_stronger_than_in_diffusers_tutorial(features, expected):
    """Its effect is in proportion to alpha, the rate and the deviation of A's entries."""
    assert rate(Lora(), POKEMON) == 1e-4, "the tutorial's rate"
    layer = Projection("0", nn.Linear(features, 8), "query", features, 8)

    def effect(settings: Lora) -> float:
        update = LowRankUpdate(layer, settings, 64)  # many rows, for the deviation alone
        return settings.scaling(4) * 4 * update.down.std().item()

    tutorial = 4 * 1 / 4  # alpha = rank = 4, deviation 1 / rank
    assert effect(Lora()) / tutorial == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("task", "weights"), [(GPT2, 124_439_808), (POKEMON, 865_910_724), (DREAMBOOTH, 865_910_724)])
def test_the_subspaces_weights_move_as_far_as_with_full_finetuning(task, weights):
    moved = rate(Subspace(), task) * math.sqrt(Subspace().dimension)
    assert moved == pytest.approx(rate(FullFinetuning(), task) * math.sqrt(weights), rel=0.1)
