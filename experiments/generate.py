"""Generate texts with finished runs: `python -m experiments.generate RUN [RUN ...] PROMPT [PROMPT ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from adapters.bounds import LARGEST_COUNT, bounded
from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.errors import check_names, check_numbers
from experiments.records.load_run import LARGEST_SCALE, load_models, runs_and_prompts
from tasks.language.settings import GENERATION


@dataclass(frozen=True)
class GenerateOptions:
    """Generate texts with finished runs, by beam search; settings not given are the task's.

    For example: python -m experiments.generate runs/e2e/lora/1a2b3c4d5e6f "name[The Mill], food[Italian]"
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...] PROMPT [PROMPT ...]")]
    """Folders of finished runs, then prompts."""
    num_beams: int | None = bounded(None, at_least=1, at_most=1000)
    """Beams of the search."""
    length_penalty: float | None = bounded(None, at_least=-100, at_most=100)
    """Exponent of the length in a beam's score."""
    no_repeat_ngram_size: int | None = bounded(None, at_least=0, at_most=1000)
    """Allow no n-gram of this size twice; 0 allows all."""
    max_new_tokens: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Maximum length of a text, in tokens."""
    scale: float = bounded(1.0, at_least=-LARGEST_SCALE, at_most=LARGEST_SCALE)
    """Multiply the adapter's update (for LoRA: B A) by this."""
    compare: Literal["base"] | None = None
    """Also generate with the untuned base."""


def main() -> None:
    options = parse_options(GenerateOptions, sys.argv[1:], "python -m experiments.generate")
    runs, prompts = runs_and_prompts(options.words)
    settings = {name: value for name in GENERATION if (value := getattr(options, name)) is not None}
    texts = generate(runs, prompts, scale=options.scale, with_base=options.compare == "base", **settings)
    for i, prompt in enumerate(prompts):
        print(prompt)
        for label, generated in texts.items():
            print(f"  {label}: {generated[i]}")


def generate(
    runs: Sequence[Path], prompts: Sequence[str], scale: float = 1.0, with_base: bool = False, **settings: Any
) -> dict[str, list[str]]:
    """One text per prompt from every run, by the run's label.

    `settings` override the task's: those of `GENERATION`. Raises UsageError for a number out of bounds, for a folder
    that is not a finished run, and for a run that generates no texts; nothing is loaded before.
    """
    check_names(settings, GENERATION, "generate()")
    check_numbers(GenerateOptions((), scale=scale, **settings))
    return {
        ", ".join(model.label.split("\n")): model.base.generate(prompts, **settings)
        for model in load_models(runs, scale, with_base, "texts")
    }


if __name__ == "__main__":
    command(main)
