"""The time that runs will take, said beforehand: from runs on this machine, or from FLOPs."""

from dataclasses import replace

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments import run
from experiments.config import RunConfig, Train
from experiments.planning import expected_time as module
from experiments.planning.expected_time import expected_time
from experiments.records.folder import write_json
from tasks import Pokemon
from tests.experiments.tiny_task import Tiny

CPU = Train(device="cpu", steps=20)
TINY = RunConfig(Lora(rank=2), Tiny(), CPU)


@pytest.fixture
def finished(tmp_path, tiny_task):
    """Writes the record of a finished run with these seconds."""
    record = run(Lora(rank=2), Tiny(), steps=1, device="cpu", runs=tmp_path)

    def write(name: str, adapter: str = "lora", processor: str | None = None, **seconds: float) -> None:
        data = dict(record.data) | {"seconds": {"step_median": 1.0, "setup": 0.0, "evaluate": 0.0} | seconds}
        if adapter != "lora":
            data["config"] = data["config"] | {"adapter": {"name": adapter}}
        if processor is not None:
            data["host"] = data["host"] | {"processor": processor}
        write_json(tmp_path / "tiny" / name / "0" / "result.json", data)

    (record.folder / "result.json").unlink()
    for name in ("one", "two", "three"):
        (tmp_path / "tiny" / name / "0").mkdir(parents=True)
    return write


@pytest.mark.parametrize(
    ("count", "workers", "words"),
    [(1, 1, "about 50.00 s"), (3, 1, "about 2.5 min"), (3, 2, "about 75.00 s"), (2, 8, "about 50.00 s")],
)
def test_steps_and_evaluation_are_those_of_the_same_method(finished, tmp_path, count, workers, words):
    finished("one", step_median=2.0, setup=4.0, evaluate=6.0)
    finished("two", adapter="full", step_median=9.0)
    configs = [replace(TINY, train=replace(CPU, seed=seed)).resolved() for seed in range(count)]
    assert expected_time(configs, tmp_path, workers) == f"{words} (as finished runs took on this machine)"


def test_other_methods_count_where_there_is_no_run_of_this_one(finished, tmp_path):
    for name, step in (("one", 2.0), ("two", 3.0), ("three", 10.0)):
        finished(name, adapter=name, step_median=step)
    full = RunConfig(FullFinetuning(), Tiny(), CPU).resolved()
    assert (expected_time([full], tmp_path) or "").startswith("about 60.00 s")


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"gradient_accumulation_steps": 2}, None])
def test_another_step_or_machine_says_nothing(finished, tmp_path, change):
    finished("one", processor="another" if change is None else None)
    config = replace(TINY, train=replace(CPU, **(change or {}))).resolved()
    assert expected_time([config], tmp_path) is None


def test_without_runs_the_flops_decide(tmp_path, monkeypatch):
    """By hand: rate 1 TFLOP/s; between a half and a fifth of it."""
    from experiments.planning.memory_plan import PlanSettings, plan

    monkeypatch.setattr(module, "product_rate", lambda device: 1e12)
    config = RunConfig(Lora(), Pokemon(test_items=0, drift_items=0, validation_items=2), CPU).resolved()
    flops = 20 * plan(config, PlanSettings(device="cpu")).prediction.training.flops / 1e12
    estimate = module._from_operations(config)
    assert estimate is not None
    assert flops / 0.5 <= estimate.low <= 1.2 * flops / 0.5
    assert flops / 0.2 <= estimate.high <= 1.2 * flops / 0.2
    assert (expected_time([config], tmp_path) or "").startswith("roughly ")


def test_a_rate_is_that_of_a_product():
    assert 1e8 < module.product_rate("cpu") < 1e14
