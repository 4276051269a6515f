"""A run's FLOPs, counted without weights, are those that a memory plan counts."""

import json

import pytest

from adapters import FullFinetuning, Lora
from adapters.base import adapter_registry
from experiments.config import RunConfig, Train
from experiments.planning.memory_plan import PlanSettings, plan
from experiments.planning.run_flops import run_flops
from tasks import Pokemon, Style
from tasks.base import task_registry
from tests.experiments.measure.test_memory import SHAPE, TOKENS
from tests.tasks.diffusion.tiny_base import write_base

CPU = Train(device="cpu", batch_size=4, gradient_accumulation_steps=2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Pokemon:
    base = write_base(tmp_path_factory.mktemp("base") / "tiny")
    return Pokemon(base=str(base), test_items=12, drift_items=4, validation_items=2, train_items=8)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Style:
    folder = tmp_path_factory.mktemp("shape")
    (folder / "config.json").write_text(json.dumps(SHAPE | TOKENS))
    return Style(base=str(folder), max_length=48)


def check(config: RunConfig) -> None:
    """The plan traces a step at another batch size."""
    config = config.resolved()
    counted, planned = run_flops(config), plan(config, PlanSettings(device="cpu")).prediction
    evaluation = sum(phase.flops * phase.count for phase in planned.phases if phase.when == "evaluation")
    assert counted.step == pytest.approx(planned.training.flops, rel=0.02)
    assert counted.evaluation == pytest.approx(evaluation, rel=0.001)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_flops_of_pictures(pictures, checkpointing):
    train = Train(device="cpu", batch_size=2, gradient_checkpointing=checkpointing)
    check(RunConfig(FullFinetuning(), pictures, train))


@pytest.mark.parametrize("method", adapter_registry())
def test_flops_of_every_method(texts, method):
    check(RunConfig(adapter_registry()[method](), texts, CPU))


BUILT_IN = [name for name, task in task_registry().items() if task.__module__.startswith("tasks.")]
"""Tasks of other packages or of test modules need not have a model to plan with."""


@pytest.mark.parametrize("task", BUILT_IN)
def test_every_task_can_be_counted(task):
    flops = run_flops(RunConfig(Lora(rank=1), task_registry()[task](), Train(device="cpu")).resolved())
    assert flops.step > 0
    assert flops.evaluation > 0
