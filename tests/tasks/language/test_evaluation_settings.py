"""A finished run's command with other settings of its evaluation loads the trained adapter and measures it."""

from __future__ import annotations

import pytest

from adapters import Lora
from experiments import run
from tasks import EndToEnd, Planted, Sft, Style
from tests.tasks.language.metrics.test_evaluate_metric import module

SETTINGS = {"steps": 2, "batch_size": 2, "learning_rate": 0.01, "device": "cpu"}
SIZES = {"test_items": 3, "drift_items": 2}
SEARCH = {"num_beams": 2, "length_penalty": 0.5, "no_repeat_ngram_size": 2, "max_new_tokens": 6}


@pytest.fixture
def others(tmp_path, evaluate_cache) -> dict[str, dict]:
    """Another value of every setting of each task's evaluation."""
    metric = module(tmp_path / "characters", "return sum(map(len, predictions))")
    return {
        "e2e": {"drift_items": 3, "extra_metrics": (metric,), **SEARCH},
        "sft": {"drift_items": 3, "answer_pattern": r"(\w)\W*$", **SEARCH},
        "style": {"drift_items": 3},
        "planted": {"drift_items": 3},
    }


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (EndToEnd, {"train_items": 6, "max_new_tokens": 4}),
        (Sft, {"train_items": 6, "max_new_tokens": 4}),
        (Style, {"max_length": 32}),
        (Planted, {"max_length": 32}),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_trained_adapter_is_measured_anew(kind, sizes, others, tiny_base, text_file, tmp_path):
    sizes = SIZES | sizes | {"base": tiny_base} | ({"data": text_file} if kind in (Style, Planted) else {})
    others = others[kind.name]
    assert set(others) == set(kind.evaluation_settings)
    first = run(Lora(rank=1), kind(**sizes), runs=tmp_path / "runs", **SETTINGS)
    again = run(Lora(rank=1), kind(**sizes | others), runs=tmp_path / "runs", **SETTINGS)
    own = run(Lora(rank=1), kind(**sizes | others), runs=tmp_path / "own", **SETTINGS)
    assert again.data["facts"]["trained_in"] == first.folder.name
    assert "trained_in" not in own.data["facts"]
    assert again.data["metrics"] == own.data["metrics"]
    assert again.data["metrics"] != first.data["metrics"]
