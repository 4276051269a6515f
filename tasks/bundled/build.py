"""Pretrain one part of the bundled bases: `python -m tasks.bundled.build PART`.

Each recipe prints its expected time, from 4 minutes (text-encoder) to 47 (gpt-mini) on one or two CPU cores. An
interrupted build resumes from its last checkpoint.
"""

import importlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from tasks.bundled.bundled_bases import LANGUAGE_MODEL

HERE = Path(__file__).parent
Part = Literal["text-encoder", "vae", "unet", "scorer", "classifier", "gpt-mini"]
RECIPES = {part: "gpt_mini" if part == LANGUAGE_MODEL else part.replace("-", "_") for part in get_args(Part)}


def build(part: Annotated[Part, tyro.conf.Positional], work: Path = Path("build"), target: Path = HERE) -> None:
    """Pretrain one part of the bundled bases, resuming from its last checkpoint.

    Args:
        part: The part to build; the UNet needs the VAE and the text encoder.
        work: Folder for checkpoints and logs.
        target: Folder to write the part to.
    """
    recipe = importlib.import_module(f"tasks.bundled.recipes.{RECIPES[part]}")
    print(f"{part}: expected {recipe.EXPECTED}")
    figures = recipe.build(target, work / part)
    file = target / "figures.json"
    all_figures = json.loads(file.read_text()) if file.exists() else {}
    all_figures[part] = figures
    file.write_text(json.dumps(all_figures, indent=2, sort_keys=True) + "\n")
    shutil.copy(work / part / "log.jsonl", target / "logs" / f"{part}.jsonl")
    (work / part / "checkpoint.pt").unlink()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    tyro.cli(build, prog="python -m tasks.bundled.build")
