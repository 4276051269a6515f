"""What a Stable Diffusion recommends: its own `card.json`, or the published recipes for a published base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tasks.bundled import bundled_bases
from tasks.errors import TaskError
from tasks.pretrained import hub
from tasks.pretrained.loading import read_card
from tasks.pretrained.published.shapes import STABLE_DIFFUSION, published

INDEX = "model_index.json"  # names the pipeline class of a folder in diffusers' layout
DEFAULT_PIPELINE, XL_PIPELINE = "StableDiffusionPipeline", "StableDiffusionXLPipeline"

# The settings of diffusers' tutorials for a published base: text-to-image and DreamBooth with LoRA. 1e-4 is also the
# rate of methods without a source of their own. The tutorials' LoRA has alpha = rank and draws A with deviation 1/rank.
# At the same rate, A and B move as far with our defaults (alpha 16, A with deviation 1 / sqrt(3 in)), and the effect of
# Adam's first step at rank 4 is half as large for 320 inputs, a quarter for 1,280.
TUTORIAL = {
    "batch_size": 1,
    "learning_rate": 1e-4,
    "lr_scheduler": "constant",
    "warmup_steps": 0,
}
# subspace: full fine-tuning's rate * sqrt(weights / dimension); at the default dimension the weights then move as far
TEXT_TO_IMAGE_RATES = {  # diffusers, examples/text_to_image/README.md
    "lora": {"learning_rate": 1e-4},
    "full": {"learning_rate": 1e-5},
    "subspace": {"learning_rate": 3e-3},
}
DREAMBOOTH_RATES = {  # diffusers, examples/dreambooth/README.md
    "lora": {"learning_rate": 1e-4},
    "full": {"learning_rate": 5e-6},
    "peft boft": {"learning_rate": 3e-5},  # peft, examples/boft_dreambooth
    "subspace": {"learning_rate": 1.5e-3},
}
PUBLISHED_CARD = {
    "targets": ["attention"],
    "sampling": {"num_inference_steps": 25, "guidance_scale": 7.5},
    "sd-pokemon": {
        "train": TUTORIAL | {"epochs": 100, "checkpointing_steps": 5000},
        "methods": TEXT_TO_IMAGE_RATES,
        "task": {"resolution": 512, "crop": "random", "random_flip": True, "caption_dropout": 0.0},
        # at 512 pixels a CPU takes ten seconds to encode a picture and minutes to sample one
        "on_cpu": {"train_items": 8, "validation_items": 1, "test_items": 0, "drift_items": 0},
    },
    "sd-planted": {
        "train": TUTORIAL | {"steps": 1000, "checkpointing_steps": 500},
        "methods": TEXT_TO_IMAGE_RATES,
    },
    "sd-dreambooth": {
        "train": TUTORIAL | {"steps": 500, "checkpointing_steps": 100},
        "methods": DREAMBOOTH_RATES,
        "task": {"resolution": 512, "crop": "random", "test_items": 40},
    },
}
# examples/text_to_image/README_sdxl.md and examples/dreambooth/README_sdxl.md of diffusers; its pipeline's guidance
XL_CARD = PUBLISHED_CARD | {
    "sampling": {"num_inference_steps": 25, "guidance_scale": 5.0},
    "sd-pokemon": PUBLISHED_CARD["sd-pokemon"]
    | {
        "train": TUTORIAL | {"epochs": 2, "checkpointing_steps": 500},
        "task": PUBLISHED_CARD["sd-pokemon"]["task"] | {"resolution": 1024},
    },
    "sd-dreambooth": PUBLISHED_CARD["sd-dreambooth"]
    | {"task": PUBLISHED_CARD["sd-dreambooth"]["task"] | {"resolution": 1024}},
}
CARDS: Mapping[str, dict[str, Any]] = {XL_PIPELINE: XL_CARD}  # by pipeline; any other has PUBLISHED_CARD


def recommended(base: str, task: str, part: str) -> dict[str, Any]:
    """What the base's card recommends for a task: its "train", "methods", "task" or "on_cpu" settings."""
    card = card_of(base)
    return card.get(task, published_card(base).get(task, {})).get(part, {})


def card_of(base: str) -> dict[str, Any]:
    """What the base recommends: its own `card.json`, or the card of its kind if it has none."""
    file = own_card(base)
    return read_card(file) if file.is_file() else published_card(base)


def own_card(base: str) -> Path:
    """Where the base's own card lies, if it has one."""
    return bundled_bases.FOLDERS.get(base, Path(base)) / bundled_bases.CARD


def task_settings(base: str, task: str) -> dict[str, Any]:
    """What the base's card recommends for sampling and for a task."""
    return card_of(base).get("sampling", {}) | recommended(base, task, "task")


def published_card(base: str) -> dict[str, Any]:
    """The card of the base's kind."""
    return CARDS.get(pipeline_of(base), PUBLISHED_CARD)


def pipeline_of(base: str) -> str:
    """The base's pipeline class in diffusers; the default for a base that cannot be found. Raises TaskError."""
    known = published(base, STABLE_DIFFUSION)
    if known is not None:
        return known["pipeline"]
    folder = bundled_bases.FOLDERS.get(base, Path(base))
    if folder.is_dir():
        return pipeline_in(folder, base)
    return _pipeline_on_the_hub(base) if hub.is_repository(base) else DEFAULT_PIPELINE


@cache
def _pipeline_on_the_hub(repository: str) -> str:
    """Only the repository's index is fetched. Whoever loads the base reports what is missing."""
    try:
        folder = hub.fetch("--task.base", repository, [repository], [INDEX], "model").folder
    except TaskError:
        return DEFAULT_PIPELINE
    return pipeline_in(folder, repository)


def pipeline_in(folder: Path, base: str) -> str:
    """The pipeline that a folder's index names; without one, that of Stable Diffusion 1 and 2. Raises TaskError."""
    index = folder / INDEX
    try:
        content = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
        return content.get("_class_name", DEFAULT_PIPELINE)
    except (OSError, ValueError, AttributeError) as error:
        raise TaskError(f"--task.base '{base}': '{index}' cannot be read ({error}): save the pipeline again") from None
