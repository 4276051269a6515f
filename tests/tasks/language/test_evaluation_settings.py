"""A finished run's command with other settings of its evaluation loads the trained adapter and measures it."""

from __future__ import annotations

import pytest

from adapters import Lora
from experiments import run
from tasks import EndToEnd, Sft

SETTINGS = {"steps": 2, "batch_size": 2, "learning_rate": 0.01, "device": "cpu"}
SIZES = {"train_items": 6, "test_items": 3, "drift_items": 2, "max_new_tokens": 4}
OTHERS = {"drift_items": 3, "num_beams": 2, "length_penalty": 0.5, "no_repeat_ngram_size": 2, "max_new_tokens": 6}


@pytest.mark.parametrize(
    ("kind", "others"),
    [(EndToEnd, OTHERS), (Sft, OTHERS | {"answer_pattern": r"(\w)\W*$"})],
    ids=["e2e", "sft"],
)
def test_texts_are_generated_anew_by_the_trained_adapter(kind, others, tiny_base, tmp_path):
    task = kind(base=tiny_base, **SIZES)
    first = run(Lora(rank=1), task, runs=tmp_path / "runs", **SETTINGS)
    changed = kind(base=tiny_base, **SIZES | others)
    again = run(Lora(rank=1), changed, runs=tmp_path / "runs", **SETTINGS)
    own = run(Lora(rank=1), changed, runs=tmp_path / "own", **SETTINGS)
    assert again.data["facts"]["trained_in"] == first.folder.name
    assert "trained_in" not in own.data["facts"]
    assert again.data["metrics"] == own.data["metrics"]


@pytest.mark.parametrize("kind", [EndToEnd, Sft])
def test_every_setting_of_the_evaluation_is_tried(kind):
    assert {*OTHERS, "extra_metrics", "answer_pattern"} >= set(kind.evaluation_settings) > set(OTHERS)
