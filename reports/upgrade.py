"""Upgrade records of earlier schemas as they are read, so that renaming an option never loses a run.

The command line reads the same tables to tell a user the new name of an option.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SCHEMA = 2

# Settings renamed from schema 1 to 2, by part of the configuration.
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
# Values renamed from schema 1 to 2, by part and the setting's new name.
RENAMED_VALUES: Mapping[tuple[str, str], Mapping[Any, Any]] = {
    ("adapter", "name"): {"adapter": "bottleneck", "adapter-truncated": "bottleneck-truncated"},
    ("adapter", "init_lora_weights"): {"normal": "gaussian"},
    ("train", "mixed_precision"): {"fp32": "no"},
}
# Settings added since schema 1, by dotted name, with the value that reproduces a run made before they existed. Runs
# that differ only in lacking such a setting are grouped together.
ADDED_SETTINGS: Mapping[str, Any] = {
    "task.extra_metrics": [],
    "task.evaluation_seeds": 1,
    "task.prompt_kind_items": 0,
    "task.logits_at_once": 2**25,
    "train.log_every": 10,
    "train.evaluate_every": None,
    "train.evaluate_share": 0.1,
    "train.compile": False,
    "task.base_precision": None,
}
# Settings that schema 1 wrote as JSON text and schema 2 writes as an object.
JSON_TEXTS = {("adapter", "options")}
# Figures of schema 1 that schema 2 computes in another way; the old values keep a name of their own.
RENAMED_FIGURES = {"nist": "nist_nltk", "meteor": "meteor_13a", "rouge_l": "rouge_l_13a", "cider": "cider_13a"}
# Extractors whose name changed, but not what they compute.
RENAMED_EXTRACTORS = {"slot patterns of tasks/language/slots.py": "slot patterns of tasks/language"}


def upgrade(record: Any) -> Any:
    """A record of schema 1 as schema 2 writes it; anything else unchanged.

    Covers every file that carries a schema: runs (truncated and imported ones too), costs, intrinsic dimensions and
    papers. What is not a record at all is left to the reader, whose error names the problem.
    """
    if not isinstance(record, dict) or record.get("schema") != 1:
        return record
    new = {("primary_metric" if name == "headline" else name): value for name, value in record.items()}
    for name in ("config", "settings"):  # of a run or a cost record, and of an intrinsic dimension
        if isinstance(new.get(name), dict):
            new[name] = upgrade_config(new[name])
    if "metrics" in new:
        new["metrics"] = _upgrade_figures(new["metrics"])
    if isinstance(new.get("curves"), list):
        new["curves"] = [_upgrade_methods(curve) for curve in new["curves"]]
    return _upgrade_methods(new) | {"schema": SCHEMA}


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run configuration (`adapter`, `task`, `train`) with today's names of settings and values."""
    return {
        part: _upgrade_part(part, settings) if isinstance(settings, dict) else settings
        for part, settings in config.items()
    }


def _upgrade_part(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    names = RENAMED_SETTINGS.get(part, {})
    renamed = {names.get(name, name): value for name, value in settings.items()}
    upgraded = {name: _renamed_value((part, name), value) for name, value in renamed.items()}
    if part == "adapter" and upgraded.get("name") in ("lora", "lora-truncated") and upgraded.get("alpha", "") is None:
        upgraded["alpha"] = "rank"  # what null meant
    return {name: _parsed(value) if (part, name) in JSON_TEXTS else value for name, value in upgraded.items()}


def _parsed(value: Any) -> Any:
    """A value that schema 1 wrote as JSON text; text that is not JSON is returned unchanged."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _upgrade_figures(metrics: Any) -> Any:
    """Figures with today's names, their own and those of their extractors."""
    if not isinstance(metrics, dict):
        return metrics
    return {
        RENAMED_FIGURES.get(name, name): figure | {"extractor": RENAMED_EXTRACTORS.get(extractor, extractor)}
        if isinstance(figure, dict) and isinstance(extractor := figure.get("extractor"), str)
        else figure
        for name, figure in metrics.items()
    }


def _upgrade_methods(entry: Any) -> Any:
    """Rename the method of a record or a curve; the name of a curve may be that of its method."""
    if not isinstance(entry, dict):
        return entry
    method = {"method", "name"} & entry.keys()
    return entry | {name: _renamed_value(("adapter", "name"), entry[name]) for name in method}


def _renamed_value(setting: tuple[str, str], value: Any) -> Any:
    """`value` under its new name. A list or an object (never a renamed value) cannot be looked up."""
    return RENAMED_VALUES.get(setting, {}).get(value, value) if isinstance(value, str) else value
