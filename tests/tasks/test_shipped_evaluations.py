"""The package ships the untuned base's evaluation for the tasks' defaults: a first run need not measure it."""

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

from tasks.base import task_registry
from tasks.base_evaluation import SHIPPED, full_key
from tasks.bundled.evaluate import BUNDLED
from tasks.cache import key_digest

# what is trained on is not in the key, and takes longest to prepare
FEW: dict[str, dict[str, Any]] = {"sd-pokemon": {"train_items": 1}}
FEW["sd-dreambooth"] = {"train_items": 1, "num_class_images": 1}


@pytest.mark.parametrize("name", BUNDLED)
def test_the_shipped_evaluation_is_that_of_the_defaults(name):
    if name == "e2e" and shutil.which("java") is None:
        pytest.skip("the shipped evaluation has the metrics that need Java")
    task: Any = task_registry()[name]().on_cpu()
    prepared = replace(task, **FEW.get(name, {})).prepare(torch.device("cpu"))
    expected = f"{name}-{key_digest(full_key(prepared))}.safetensors"
    shipped = [file.name for file in SHIPPED.glob(f"{name}-*")]
    assert shipped == [expected], f"run `python -m tasks.bundled.evaluate {name}`"
