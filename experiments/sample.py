"""Pictures from finished runs: `python -m experiments.sample RUN [RUN ...] PROMPT [PROMPT ...]`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.errors import command
from experiments.errors import UsageError
from experiments.records.load_run import load_models, runs_and_prompts

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "adapter-testbed"  # the PNG's text chunk
LARGEST_CELL = 512  # pixels a side of a picture in the grid


def main() -> None:
    options = parser().parse_args()
    runs, prompts = runs_and_prompts(options.words)
    if options.n < 1 or (options.num_inference_steps is not None and options.num_inference_steps < 1):
        raise UsageError("--n and --num-inference-steps must be at least 1")
    captions = [prompt for prompt in prompts for _ in range(options.n)]
    rows: dict[str, Tensor] = {}
    facts: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for model in load_models(runs, options.scale, options.compare == "base"):
        settings = settings or _settings(options, model.base.sampling)
        label = model.label if model.label not in rows else f"{model.label} ({len(rows)})"
        rows[label] = model.base.sample(captions, **settings)
        facts.append({"label": label, **model.facts})
    file = options.out or runs[0] / "samples" / f"{slug(prompts[0])}-seed{options.seed}.png"
    save(
        rows, captions, file, {"prompts": prompts, "n": options.n, "solver": "DPM-Solver++", **settings, "rows": facts}
    )
    print(file)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(
        prog="python -m experiments.sample",
        description="Sample pictures from finished runs, one row a run: picture i of every row starts from the same "
        "noise. The grid is a PNG whose metadata hold its settings.",
        epilog='For example: python -m experiments.sample runs/sd-pokemon/lora/1a2b3c4d5e6f "a round green creature"',
    )
    program.add_argument("words", nargs="+", metavar="RUN ... PROMPT", help="finished runs' folders, then prompts")
    program.add_argument("--n", type=int, default=4, help="pictures a prompt (default: 4)")
    program.add_argument("--num-inference-steps", type=int, help="of DPM-Solver++ (default: the base's card's)")
    program.add_argument("--guidance-scale", type=float, help="guidance scale (default: the base's card's)")
    program.add_argument("--seed", type=int, default=0, help="of the start noise (default: 0)")
    program.add_argument("--scale", type=float, default=1.0, help="multiplies the update (for LoRA: B A; default: 1)")
    program.add_argument("--compare", choices=["base"], help="a row of the untuned base too")
    program.add_argument("--out", type=Path, help="the grid's file (default: in the first run's samples)")
    return program


def _settings(options: argparse.Namespace, card: Mapping[str, Any]) -> dict[str, Any]:
    """Seed, steps and guidance for every row: the user's, else what the first run's base recommends."""
    given = {
        "seed": options.seed,
        "num_inference_steps": options.num_inference_steps,
        "guidance_scale": options.guidance_scale,
    }
    return given | {name: card.get(name) for name in ("num_inference_steps", "guidance_scale") if given[name] is None}


def slug(prompt: str) -> str:
    """The prompt as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "prompt"


def save(rows: Mapping[str, Tensor], captions: list[str], file: Path, facts: Mapping[str, Any]) -> None:
    """The grid as PNG, with `facts` as JSON in its text chunk `adapter-testbed`."""
    from PIL.PngImagePlugin import PngInfo

    from tasks.diffusion.evaluation.grid import CELL, grid_of

    side = max(pictures.shape[-1] for pictures in rows.values())
    chunk = PngInfo()
    chunk.add_itxt(METADATA, json.dumps(facts))
    file.parent.mkdir(parents=True, exist_ok=True)
    grid_of(rows, captions, min(max(side, CELL), LARGEST_CELL)).save(file, format="png", pnginfo=chunk)


if __name__ == "__main__":
    command(main)
