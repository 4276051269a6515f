"""A run that differs in its evaluation alone loads the trained adapter of the other one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from experiments import run
from tasks.base import Evaluation, Figure, Task
from tests.experiments.tiny_regression import PreparedRegression, TinyRegression


class Repeated(PreparedRegression):
    def evaluate(self, output=None):
        values = [self.validation_loss() + seed for seed in range(self.task.evaluation_seeds)]
        figure = Figure(sum(values) / len(values), "squared", 1, "exact", evaluation=values)
        return Evaluation({"error": figure}, [{"item": 0, "error": figure.value}])


@dataclass(frozen=True)
class Noisy(TinyRegression, name="noisy"):
    evaluation_settings: ClassVar = ("evaluation_seeds",)
    evaluation_seeds: int = 1

    def prepare(self, device):
        return Repeated(self)


del Task._registry["noisy"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.setitem(Task._registry, "noisy", Noisy)
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path / "cache"))


SETTINGS = {"steps": 3, "batch_size": 1, "learning_rate": 0.01, "device": "cpu"}


@pytest.mark.parametrize(
    "method", [Lora(rank=2), PeftMethod("fourierft", {"n_frequency": 20})], ids=lambda each: each.label
)
def test_the_training_is_that_of_the_finished_run(method, tmp_path, capsys):
    runs, seed = tmp_path / "runs", 1
    first = run(method, Noisy(), runs=runs, seed=seed, **SETTINGS)
    again = run(method, Noisy(evaluation_seeds=5), runs=runs, seed=seed, **SETTINGS)
    assert f"already trained, only the evaluation runs: {first.folder}" in capsys.readouterr().err
    assert again.folder != first.folder
    assert again.figure("error").evaluation == pytest.approx([first.error + k for k in range(5)])
    assert again.data["facts"]["trained_in"] == first.folder.name
    for name in ("training", "flops", "parameters", "adapter_bytes", "seed", "size"):
        assert again.data[name] == first.data[name]
    evaluations = [record.data["memory"].pop("evaluation") for record in (first, again)]  # each its own
    assert min(peak["peak_bytes"] for peak in evaluations) > 0
    assert again.data["memory"] == first.data["memory"]
    assert again.data["seconds"]["train"] == first.data["seconds"]["train"]
    assert (again.folder / "steps.jsonl").read_text() == (first.folder / "steps.jsonl").read_text()
    settings = again.data["config"]["task"]
    assert settings == first.data["config"]["task"] | {"evaluation_seeds": 5}


def test_another_training_is_its_own(tmp_path, capsys):
    runs = tmp_path / "runs"
    run(Lora(rank=2), Noisy(), runs=runs, **SETTINGS)
    others = [
        (Lora(rank=2), Noisy(evaluation_seeds=2), SETTINGS | {"seed": 1}),
        (Lora(rank=2), Noisy(evaluation_seeds=2), SETTINGS | {"steps": 4}),
        (Lora(rank=2, alpha=5), Noisy(evaluation_seeds=2), SETTINGS),
        (Lora(rank=2), Noisy(evaluation_seeds=2, worse_when_tuned=True), SETTINGS),
    ]
    for method, task, settings in others:
        assert "trained_in" not in run(method, task, runs=runs, **settings).data["facts"]
    assert "already trained" not in capsys.readouterr().err


def test_overwrite_trains_again(tmp_path):
    runs = tmp_path / "runs"
    run(Lora(rank=2), Noisy(), runs=runs, **SETTINGS)
    record = run(Lora(rank=2), Noisy(evaluation_seeds=2), runs=runs, overwrite=True, **SETTINGS)
    assert "trained_in" not in record.data["facts"]


@pytest.mark.parametrize("damage", ["result.json", "adapter.safetensors", "config.json"])
def test_an_incomplete_run_is_not_used(tmp_path, damage):
    runs = tmp_path / "runs"
    first = run(Lora(rank=2), Noisy(), runs=runs, **SETTINGS)
    (first.folder / damage).unlink()
    record = run(Lora(rank=2), Noisy(evaluation_seeds=2), runs=runs, **SETTINGS)
    assert "trained_in" not in record.data["facts"]


def test_a_changed_file_of_the_task_is_another_training(tmp_path):
    runs = tmp_path / "runs"
    first = run(Lora(rank=2), Noisy(), runs=runs, **SETTINGS)
    config = first.folder / "config.json"
    content = {"content": {"adapter": {}, "task": {"data": "another"}}}
    config.write_text(json.dumps(json.loads(config.read_text()) | content))
    record = run(Lora(rank=2), Noisy(evaluation_seeds=2), runs=runs, **SETTINGS)
    assert "trained_in" not in record.data["facts"]


def test_the_figures_are_those_of_a_run_that_trains(tmp_path):
    shared, own = tmp_path / "shared", tmp_path / "own"
    run(Lora(rank=2), Noisy(), runs=shared, **SETTINGS)
    first = run(Lora(rank=2), Noisy(evaluation_seeds=3), runs=shared, **SETTINGS)
    second = run(Lora(rank=2), Noisy(evaluation_seeds=3), runs=own, **SETTINGS)
    assert first.folder.name == second.folder.name
    assert first.figure("error") == second.figure("error")
    states = [(each.folder / "adapter.safetensors").read_bytes() for each in (first, second)]
    assert states[0] == states[1]
