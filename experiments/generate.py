"""Texts from finished runs: `python -m experiments.generate RUN [RUN ...] PROMPT [PROMPT ...]`."""

from __future__ import annotations

import argparse

from experiments.cli.errors import command
from experiments.errors import UsageError
from experiments.records.load_run import load_models, runs_and_prompts

SETTINGS = {"num_beams": 1, "max_new_tokens": 1, "no_repeat_ngram_size": 0}  # and the least value of each


def main() -> None:
    options = parser().parse_args()
    runs, prompts = runs_and_prompts(options.words)
    given = {name: getattr(options, name) for name in (*SETTINGS, "length_penalty")}
    given = {name: value for name, value in given.items() if value is not None}
    for name, least in SETTINGS.items():
        if given.get(name, least) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {given[name]}")
    texts: dict[str, list[str]] = {}
    for model in load_models(runs, options.scale, options.compare == "base"):
        texts[", ".join(model.label.split("\n"))] = model.base.generate(prompts, **given)
    for i, prompt in enumerate(prompts):
        print(prompt)
        for label, found in texts.items():
            print(f"  {label}: {found[i]}")


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(
        prog="python -m experiments.generate",
        description="Write texts with finished runs, by beam search with their task's own settings.",
        epilog='For example: python -m experiments.generate runs/e2e/lora/1a2b3c4d5e6f "name[The Mill], food[Italian]"',
    )
    program.add_argument("words", nargs="+", metavar="RUN ... PROMPT", help="finished runs' folders, then prompts")
    program.add_argument("--num_beams", type=int, help="width of the beam search (default: the task's)")
    program.add_argument("--length-penalty", type=float, help="exponent of the length (default: the task's)")
    program.add_argument("--no-repeat-ngram", type=int, help="no n-gram of so many tokens twice; 0 allows all")
    program.add_argument("--new-tokens", type=int, help="length of a text, at most (default: the task's)")
    program.add_argument("--scale", type=float, default=1.0, help="multiplies the update (for LoRA: B A; default: 1)")
    program.add_argument("--compare", choices=["base"], help="the untuned base's text too")
    return program


if __name__ == "__main__":
    command(main)
