"""The bundled Stable Diffusion as anybody else's program loads it."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION

ROOT = Path(__file__).parents[3]


def test_diffusers_loads_and_samples_the_bundled_folder_without_options(monkeypatch):
    """The example of the card, as printed there."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "tasks/bundled/CARD.md").read_text(), re.DOTALL)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(example.replace("num_inference_steps=12", "num_inference_steps=4"), names)
    picture = np.asarray(names["picture"], float)
    assert picture.shape == (64, 64, 3)
    assert picture.std() > 10
    assert FOLDERS[STABLE_DIFFUSION] == ROOT / "tasks/bundled/mini"
