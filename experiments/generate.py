"""Generate texts with finished runs: `python -m experiments.generate RUN [RUN ...] PROMPT [PROMPT ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.errors import UsageError
from experiments.records.load_run import load_models, runs_and_prompts

MINIMUM = {"num_beams": 1, "max_new_tokens": 1, "no_repeat_ngram_size": 0}


@dataclass(frozen=True)
class GenerateOptions:
    """Generate texts with finished runs, by beam search; settings not given are the task's.

    For example: python -m experiments.generate runs/e2e/lora/1a2b3c4d5e6f "name[The Mill], food[Italian]"
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...] PROMPT [PROMPT ...]")]
    """Folders of finished runs, then prompts."""
    num_beams: int | None = None
    """Beams of the search."""
    length_penalty: float | None = None
    """Exponent of the length in a beam's score."""
    no_repeat_ngram_size: int | None = None
    """Allow no n-gram of this size twice; 0 allows all."""
    max_new_tokens: int | None = None
    """Maximum length of a text, in tokens."""
    scale: float = 1.0
    """Multiply the adapter's update (for LoRA: B A) by this."""
    compare: Literal["base"] | None = None
    """Also generate with the untuned base."""


def main() -> None:
    options = parse_options(GenerateOptions, sys.argv[1:], "python -m experiments.generate")
    runs, prompts = runs_and_prompts(options.words)
    names = (*MINIMUM, "length_penalty")
    settings = {name: value for name in names if (value := getattr(options, name)) is not None}
    texts = generate(runs, prompts, scale=options.scale, with_base=options.compare == "base", **settings)
    for i, prompt in enumerate(prompts):
        print(prompt)
        for label, generated in texts.items():
            print(f"  {label}: {generated[i]}")


def generate(
    runs: Sequence[Path], prompts: Sequence[str], scale: float = 1.0, with_base: bool = False, **settings: Any
) -> dict[str, list[str]]:
    """One text per prompt from every run, by the run's label.

    `settings` override the task's: num_beams, max_new_tokens, no_repeat_ngram_size, length_penalty. Raises UsageError
    for a folder that is not a finished run, TaskError if its base generates no texts.
    """
    for name, least in MINIMUM.items():
        if settings.get(name, least) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {settings[name]}")
    return {
        ", ".join(model.label.split("\n")): model.base.generate(prompts, **settings)
        for model in load_models(runs, scale, with_base)
    }


if __name__ == "__main__":
    command(main)
