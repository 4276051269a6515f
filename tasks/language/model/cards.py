"""A base's card: the settings that it recommends for each task and method, from its folder or for published bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.bundled.bundled_bases import CARD, FOLDERS, LANGUAGE_MODEL
from tasks.pretrained.loading import read_card

EARLIER_CARD = "recommended.json"  # its name in folders that the first release wrote
METHOD_RATES = {  # on GPT-2 for E2E where a source has it; the other methods have PUBLISHED_CARD's rate
    # Hu et al. 2021, Table 11: 2e-4 at alpha 32. At the default alpha of 16, Adam's first step has the same effect at
    # twice the rate, and A and B move as far at sqrt(2) times the rate; likewise at peft's alpha of 8
    "lora": {"learning_rate": 3e-4},
    "peft lora": {"learning_rate": 6e-4},
    "full": {"learning_rate": 5e-5},  # Li & Liang 2021: their code's fine-tuning; also FT-Top2
    "bottleneck": {"learning_rate": 1e-4},  # Hu et al. 2021, appendix D, for Adapter^H; Li & Liang's code has 5e-5
    # P-tuning v2 (Liu et al. 2022, RTE), which trains the prefix itself, as PrefixTuning does by default. Li & Liang's
    # 5e-5 to 8e-5 are for the weights of an MLP that computes it
    "prefix": {"learning_rate": 5e-3},
    "peft vera": {"learning_rate": 2e-2},  # peft's example for Kopiczko et al. 2024, on MRPC
    "peft ia3": {"learning_rate": 3e-3},  # T-Few (Liu et al. 2022), configs/ia3.json
    # full fine-tuning's rate * sqrt(weights / dimension): at the default dimension the weights then move as far
    "subspace": {"learning_rate": 6e-3},
}
# Hu et al. 2021, Table 11: the recipe for GPT-2 on E2E; five epochs of the data's 42,061 pairs
PUBLISHED_CARD = {
    "targets": ["query", "value"],
    "generation": {"no_repeat_ngram_size": 4},
    "e2e": {
        "train": {
            "steps": 26_290,
            "batch_size": 8,
            "learning_rate": 2e-4,
            "lr_scheduler": "linear",
            "warmup_steps": 500,
        },
        "methods": METHOD_RATES,
    },
    "style": {
        "train": {"steps": 1000, "batch_size": 8, "learning_rate": 2e-4, "lr_scheduler": "linear", "warmup_steps": 100},
        "methods": METHOD_RATES,
    },
}


def card_of(base: str) -> dict[str, Any]:
    """The base's recommended settings: its own card, or else the card of published bases."""
    files = (folder_of(base) / name for name in (CARD, EARLIER_CARD))
    return next((read_card(file) for file in files if file.is_file()), PUBLISHED_CARD)


def folder_of(base: str) -> Path:
    """The folder of a base that is bundled or given as a folder."""
    return FOLDERS[base] if base == LANGUAGE_MODEL else Path(base)


def recommended(base: str, task: str, adapter: str) -> dict[str, Any]:
    """The training settings that the base's card recommends for a task and a method."""
    settings = card_of(base).get(task, {})
    return settings.get("train", {}) | settings.get("methods", {}).get(adapter, {})
