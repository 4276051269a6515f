"""Metric declarations, figures and the registry of tasks."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from tasks.base import Metric, declare, task_registry

LOSS = Metric("loss", "lower", "nats", "loss on test sequences", needs=("numpy", "no-such-program"))


def test_a_figure_takes_its_unit_from_the_metric():
    figure = LOSS.figure(2, 10, "the model", 1.0, 3.0, ceiling=0.5)
    assert figure.as_record() == {
        "value": 2.0,
        "unit": "nats",
        "n": 10,
        "extractor": "the model",
        "low": 1.0,
        "high": 3.0,
        "ceiling": 0.5,
    }


def test_declared_metrics_keep_their_order_and_are_read_only():
    metrics = declare(LOSS, replace(LOSS, name="accuracy"))
    assert list(metrics) == ["loss", "accuracy"]
    with pytest.raises(TypeError):
        metrics["other"] = LOSS  # pyright: ignore[reportIndexIssue]


def test_a_metric_declared_twice_is_refused():
    with pytest.raises(ValueError, match="loss"):
        declare(LOSS, replace(LOSS, unit="bits"))


def test_an_implementation_names_version_and_releases():
    import numpy

    assert LOSS.implementation() == ["loss", 1, {"numpy": numpy.__version__, "no-such-program": None}]


@pytest.mark.parametrize("task", task_registry().values(), ids=lambda task: task.name)
def test_every_task_declares_its_primary_metric(task):
    assert task.primary_metric in task.metrics
    assert all(name == metric.name for name, metric in task.metrics.items())
    assert all(metric.meaning for metric in task.metrics.values())


@pytest.mark.parametrize("task", task_registry().values(), ids=lambda task: task.name)
def test_hints_are_for_options_that_do_not_exist(task):
    assert not task.option_hints.keys() & {setting.name for setting in fields(task)}


def test_listing_the_tasks_imports_no_torch():
    code = (
        "import sys, tasks.base; tasks.base.task_registry(); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
