"""A base's card: the settings that it recommends for each task and method, from its folder or for published bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.bundled.bundled_bases import CARD, FOLDERS, LANGUAGE_MODEL
from tasks.pretrained.loading import read_card

EARLIER_CARD = "recommended.json"  # its name in folders that the first release wrote
# subspace steps are as long as full fine-tuning's at the default dimension: rate * sqrt(weights / dimension)
METHOD_RATES = {"subspace": {"learning_rate": 2e-2}}
# Hu et al. 2021, Table 11: the E2E recipe for GPT-2; five epochs of the data's 42,061 pairs
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
