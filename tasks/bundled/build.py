"""Pretrain one part of the bundled bases: `python -m tasks.bundled.build PART`.

Each recipe prints its expected time, minutes to hours on one or two CPU cores. An interrupted build resumes
from its last checkpoint.
"""

import importlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.cli.errors import command, stop
from experiments.cli.parser import parse_options
from tasks.bundled.bundled_bases import CLASSIFIER, LANGUAGE_MODEL, SCORER, STABLE_DIFFUSION

HERE = Path(__file__).parent
Part = Literal["text-encoder", "vae", "unet", "unet-min-snr", "scorer", "classifier", "vae-decoder", "gpt-mini"]
RECIPES: dict[str, str] = {  # module in tasks/bundled/recipes
    "text-encoder": "text_encoder",
    "vae": "vae",
    "unet": "unet",
    "unet-min-snr": "unet_min_snr",
    "vae-decoder": "vae_decoder",
    SCORER.name: "scorer",
    CLASSIFIER.name: "classifier",
    LANGUAGE_MODEL: "gpt_mini",
}
ENCODERS = {"text-encoder": f"{STABLE_DIFFUSION}/text_encoder", "vae": f"{STABLE_DIFFUSION}/vae"}
JUDGES = {SCORER.name: SCORER.name, CLASSIFIER.name: CLASSIFIER.name}
UNET = {"unet": f"{STABLE_DIFFUSION}/unet"}
NEEDED = {  # by part: the parts that it needs, to train and to measure samples, and their folders
    "unet": ENCODERS,
    "unet-min-snr": ENCODERS | UNET,
    "vae-decoder": ENCODERS | UNET | JUDGES,
}


def build(part: str, work: Path, target: Path = HERE) -> None:
    """Pretrain one part with checkpoints below `work`, and write it and its figures to `target`."""
    from tasks.bundled.pretraining import LOG, remove_checkpoint

    recipe = importlib.import_module(f"tasks.bundled.recipes.{RECIPES[part]}")
    print(f"{part}: expected {recipe.EXPECTED}")
    figures = recipe.build(target, work / part)
    file = target / "figures.json"
    all_figures = json.loads(file.read_text()) if file.exists() else {}
    all_figures[part] = figures
    file.write_text(json.dumps(all_figures, indent=2, sort_keys=True) + "\n")
    (target / "logs").mkdir(exist_ok=True)
    shutil.copy(work / part / LOG, target / "logs" / f"{part}.jsonl")
    remove_checkpoint(work / part)
    print(json.dumps(figures, indent=2))


@dataclass(frozen=True)
class BuildOptions:
    """Pretrain one part of the bundled bases, resuming from its last checkpoint."""

    part: Annotated[Part, tyro.conf.Positional, tyro.conf.arg(metavar="PART")]
    """The part to build: text-encoder, vae, scorer, classifier, unet (which needs text-encoder and vae), unet-min-snr
    (which continues training the UNet), vae-decoder (which needs text-encoder, vae, unet, scorer and classifier) or
    gpt-mini."""
    work: Path = Path("build")
    """Folder for checkpoints and logs."""
    target: Path = HERE
    """Folder to write the part to."""


def main() -> None:
    options = parse_options(BuildOptions, sys.argv[1:], "python -m tasks.bundled.build")
    needed = NEEDED.get(options.part, {})
    missing = [part for part, folder in needed.items() if not (options.target / folder).is_dir()]
    if missing:
        stop(f"{options.part} needs {' and '.join(missing)} in {options.target}: build them first")
    build(options.part, options.work, options.target)


if __name__ == "__main__":
    command(main)
