"""Records of earlier schemas, upgraded while they are read: a renamed option never loses a record.

The command line reads the same table to tell a user an option's new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA = 2

# Settings renamed from schema 1 to 2, by the part of the configuration.
RENAMED_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "adapter": {"rank_stabilised": "use_rslora", "initialisation": "init_lora_weights"},
    "task": {
        "base_items": "drift_items",
        "beams": "num_beams",
        "class_items": "num_class_images",
        "familiar_items": "drift_items",
        "guidance": "guidance_scale",
        "instance_data": "data",
        "instance_items": "train_items",
        "length": "max_length",
        "min_snr_gamma": "snr_gamma",
        "new_tokens": "max_new_tokens",
        "no_repeat_ngram": "no_repeat_ngram_size",
        "pickled": "allow_pickle",
        "sampling_steps": "num_inference_steps",
    },
    "train": {
        "batch": "batch_size",
        "checkpoint_every": "checkpointing_steps",
        "ema": "ema_decay",
        "gradient_accumulation": "gradient_accumulation_steps",
        "maximal_gradient_norm": "max_grad_norm",
        "precision": "mixed_precision",
        "processes": "num_processes",
        "schedule": "lr_scheduler",
        "tracker": "report_to",
        "validate_every": "validation_steps",
        "warm_up": "warmup_steps",
    },
}
# Values renamed from schema 1 to 2, by the part and the setting's new name.
RENAMED_VALUES: Mapping[tuple[str, str], Mapping[Any, Any]] = {
    ("adapter", "name"): {"adapter": "bottleneck"},
    ("adapter", "init_lora_weights"): {"normal": "gaussian"},
    ("train", "mixed_precision"): {"fp32": "no"},
}


def upgrade(record: Any) -> Any:
    """A record, an intrinsic outcome or a cost record of schema 1 as schema 2 writes it; anything else unchanged.

    What is not a record at all is left to the reader, whose error says so.
    """
    if not isinstance(record, dict) or record.get("schema") != 1:
        return record
    new = {("primary_metric" if name == "headline" else name): value for name, value in record.items()}
    if isinstance(new.get("config"), dict):
        new["config"] = upgrade_config(new["config"])
    if new.get("method") == "adapter":
        new["method"] = "bottleneck"
    return new | {"schema": SCHEMA}


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run configuration (`adapter`, `task`, `train`) with today's names of settings and values."""
    return {
        part: _upgrade_part(part, settings) if isinstance(settings, dict) else settings
        for part, settings in config.items()
    }


def _upgrade_part(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    names = RENAMED_SETTINGS.get(part, {})
    renamed = {names.get(name, name): value for name, value in settings.items()}
    return {
        name: RENAMED_VALUES[part, name].get(value, value) if (part, name) in RENAMED_VALUES else value
        for name, value in renamed.items()
    }
