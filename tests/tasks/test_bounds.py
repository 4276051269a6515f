"""A task's settings are checked at once, without a model; that every number has bounds is in experiments/cli."""

import math
from dataclasses import replace

import pytest

from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd


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
