"""Every number of a task has bounds where it is declared, and all of them are checked at once, without a model."""

import math
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from adapters.bounds import BOUNDS
from tasks.base import task_registry
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style

TASKS = (DreamBooth, EndToEnd, Pokemon, Style)
NUMBERS = [
    (task, field.name)
    for task in TASKS
    for field in fields(task)
    if {int, float} & {hint := get_type_hints(task)[field.name], *getattr(hint, "__args__", ())}
]


def test_all_tasks_of_this_package_are_covered():
    ours = {task for task in task_registry().values() if task.__module__.startswith("tasks.")}
    assert ours == set(TASKS)
    assert len(NUMBERS) > 25


@pytest.mark.parametrize(("task", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e30, 1e30])
def test_no_number_is_taken_silently(task, name, value):
    option = f"--task.{name.replace('_', '-')} must be"
    with pytest.raises(TaskError, match=option) as refusal:
        replace(task(), **{name: value}).check_settings()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("task", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_the_default_is_valid(task, name):
    (field,) = (field for field in fields(task) if field.name == name)
    assert field.default is None or field.metadata[BOUNDS].hold(field.default)


@pytest.mark.parametrize(
    "settings", [{"num_inference_steps": 0}, {"num_inference_steps": -1}, {"guidance_scale": math.nan}]
)
def test_the_cases_of_users(settings):
    with pytest.raises(TaskError):
        Pokemon(**settings).check_settings()


def test_all_faults_are_in_one_sentence():
    with pytest.raises(TaskError) as refusal:
        EndToEnd(num_beams=0, length_penalty=math.nan, test_items=1).check_settings()
    assert str(refusal.value) == (
        "--task.test-items must be at least 2 and at most 1000000, not 1; --task.num-beams must be at least 1 and at "
        "most 1000, not 0; --task.length-penalty must be at least -100 and at most 100, not nan"
    )


def test_a_class_is_needed_for_prior_preservation_and_the_option_exists():
    task = DreamBooth(data="folder", instance_prompt="a photo of sks dog")
    with pytest.raises(TaskError, match=r"--task\.prior-preservation False turns it off"):
        task.check_settings()
    replace(task, prior_preservation=False).check_settings()
