"""Sample pictures from finished runs: `python -m experiments.sample RUN [RUN ...] PROMPT [PROMPT ...]`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from adapters.bounds import bounded
from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.errors import check_numbers
from experiments.records.load_run import LARGEST_SCALE, load_models, runs_and_prompts
from experiments.training.settings import LARGEST_SEED
from tasks.cache import digest
from tasks.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.base import LoadedBase

METADATA = "adapter-testbed"  # the PNG's text chunk
MAX_CELL = 512  # pixels per side of a picture in the grid


@dataclass(frozen=True)
class SampleOptions:
    """Sample pictures from finished runs into one PNG grid with one row per run.

    Picture i of every row starts from the same noise. The PNG's metadata hold the settings. For example:
    python -m experiments.sample runs/sd-pokemon/lora/1a2b3c4d5e6f "a round green creature"
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...] PROMPT [PROMPT ...]")]
    """Folders of finished runs, then prompts."""
    num_images_per_prompt: int = bounded(4, at_least=1, at_most=1000)
    """Pictures per prompt and run."""
    num_inference_steps: int | None = bounded(None, at_least=1, at_most=1000)
    """Sampling steps of DPM-Solver++. Default: that of the first run's evaluation."""
    guidance_scale: float | None = bounded(None, at_least=0, at_most=1000)
    """Classifier-free guidance scale. Default: that of the first run's evaluation."""
    seed: int = bounded(0, at_least=0, at_most=LARGEST_SEED)
    """Seed of the initial noise."""
    scale: float = bounded(1.0, at_least=-LARGEST_SCALE, at_most=LARGEST_SCALE)
    """Multiply the adapter's update (for LoRA: B A) by this."""
    compare: Literal["base"] | None = None
    """Also add a row of the untuned base."""
    output: Path | None = None
    """File of the grid. Default: in the samples/ folder of the first run, by prompt, seed and all other settings."""


@dataclass(frozen=True)
class Samples:
    """Pictures by row label, uint8 (n, 3, height, width), the caption of each column, and the settings used."""

    rows: Mapping[str, Tensor] = field(repr=False)
    captions: list[str]
    settings: Mapping[str, Any]

    @property
    def file_name(self) -> str:
        """The first prompt and the seed, and a digest of all settings: another name wherever anything differs."""
        settings = json.dumps(self.settings, sort_keys=True).encode()
        return f"{slug(self.settings['prompts'][0])}-seed{self.settings['seed']}-{digest(settings)[:8]}.png"

    def save(self, file: Path) -> None:
        """Write the grid as PNG, with the settings as JSON in its text chunk `adapter-testbed`."""
        from PIL.PngImagePlugin import PngInfo

        from tasks.diffusion.evaluation.grid import CELL, grid_of

        side = max(pictures.shape[-1] for pictures in self.rows.values())
        chunk = PngInfo()
        chunk.add_itxt(METADATA, json.dumps(self.settings))
        file.parent.mkdir(parents=True, exist_ok=True)
        grid = grid_of(self.rows, self.captions, min(max(side, CELL), MAX_CELL))
        grid.save(file, format="png", pnginfo=chunk)


def main() -> None:
    options = parse_options(SampleOptions, sys.argv[1:], "python -m experiments.sample")
    runs, prompts = runs_and_prompts(options.words)
    samples = sample(
        runs,
        prompts,
        num_images_per_prompt=options.num_images_per_prompt,
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        seed=options.seed,
        scale=options.scale,
        with_base=options.compare == "base",
    )
    file = options.output or runs[0] / "samples" / samples.file_name
    samples.save(file)
    print(file)


def sample(
    runs: Sequence[Path],
    prompts: Sequence[str],
    num_images_per_prompt: int = 4,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    scale: float = 1.0,
    with_base: bool = False,
) -> Samples:
    """Sample every prompt with every run; settings left at None are those of the first run's evaluation.

    Raises UsageError for a number out of bounds, for a folder that is not a finished run, and for a run that generates
    no pictures; nothing is loaded before.
    """
    check_numbers(SampleOptions((), num_images_per_prompt, num_inference_steps, guidance_scale, seed, scale))
    captions = [prompt for prompt in prompts for _ in range(num_images_per_prompt)]
    requested = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    settings: dict[str, Any] = {}
    rows: dict[str, Tensor] = {}
    facts: list[dict[str, Any]] = []
    for model in load_models(runs, scale, with_base, "pictures"):
        own = {**model.base.sampling, **model.sampling}
        settings = settings or {
            "seed": seed,
            **{name: own[name] if value is None else value for name, value in requested.items()},
        }
        label = model.label if model.label not in rows else f"{model.label} ({len(rows)})"
        if not rows:
            _warn_cut(model.base, prompts)
        rows[label] = model.base.sample(captions, **settings)
        facts.append({"label": label, **model.facts})
    counts = {"prompts": list(prompts), "num_images_per_prompt": num_images_per_prompt, "solver": "DPM-Solver++"}
    return Samples(rows, captions, {**counts, **settings, "rows": facts})


def _warn_cut(base: LoadedBase, prompts: Sequence[str]) -> None:
    """Print how many prompts are longer than the text encoder's limit, if any."""
    from tasks.diffusion.model.encoding import cut_captions

    try:
        tokenizer = base.pipeline().tokenizer
    except TaskError:  # another package's base without a pipeline
        return
    if cut := cut_captions(tokenizer, prompts):
        limit = f"{tokenizer.model_max_length} tokens that the text encoder reads (with start and end)"
        print(f"prompts longer than the {limit}: {len(cut)} of {len(prompts)}; their ends are cut off", file=sys.stderr)


def slug(prompt: str) -> str:
    """The prompt, in any script, as part of a file name: at most 60 bytes."""
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")
    return words.encode()[:60].decode(errors="ignore").strip("-") or "prompt"


if __name__ == "__main__":
    command(main)
