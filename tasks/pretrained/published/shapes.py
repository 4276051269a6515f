"""Configurations of published models, without weights: what `tasks/pretrained/published/NAME.json` holds.

Each file has the model's `kind`, its hub repositories (`hub`, first choice first), for a diffusion model its `pipeline`
class in diffusers, and the configuration of every part in its library's own format.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).parent
LANGUAGE_MODEL, STABLE_DIFFUSION = "language-model", "stable-diffusion"


def published(base: str, kind: str) -> dict[str, Any] | None:
    """The file of a published base of this kind, by its name here or on the hub; None for any other base."""
    name = short_name(base)
    return json.loads((PUBLISHED / f"{name}.json").read_text()) if name in names(kind) else None


def names(kind: str) -> list[str]:
    """Names of the published bases of a kind, "language-model" or "stable-diffusion", the smallest first."""
    files = _all_files()
    return sorted((name for name in files if files[name]["kind"] == kind), key=lambda name: (_size(files[name]), name))


def _size(content: dict[str, Any]) -> int:
    """Grows with the number of weights: of a language model roughly that, of a UNet the width of its text states."""
    if content["kind"] == STABLE_DIFFUSION:
        return content["unet"]["cross_attention_dim"]
    config = content["config"]
    width = config.get("hidden_size") or config["n_embd"]
    layers = config.get("num_hidden_layers") or config["n_layer"]
    hidden = config.get("intermediate_size", 8 * width // 3)
    return config["vocab_size"] * width + layers * (4 * width**2 + 3 * width * hidden)


def short_name(base: str) -> str:
    """The name used here for a hub repository ("gpt2" for "openai-community/gpt2"); any other base unchanged."""
    if "/" not in base:
        return base
    by_repository = {source.lower(): name for name, content in _all_files().items() for source in content["hub"]}
    return by_repository.get(base.lower(), base)


def did_you_mean(base: str, kind: str, *others: str) -> str:
    """ " (did you mean NAME?)" for what people type: "SDXL", "sd15", "stable-diffusion-2-1", "Llama-3.1-8B", ...

    `others` are valid names beside the published ones. The beginning of several names ("llama") means all of these, the
    smallest first. Empty if no name is near.
    """
    typed = _spelt(base.rpartition("/")[2])
    family = [name for name in (*others, *names(kind)) if typed and _spelt(name).startswith(typed)]
    if len(family) > 1 and typed not in map(_spelt, family):
        return f" (did you mean {', '.join(family[:-1])} or {family[-1]}?)"
    spellings = {_spelt(name): name for name in (*names(kind), *others)}
    for name in names(kind):
        repositories = (source.rpartition("/")[2] for source in _all_files()[name]["hub"])
        spellings |= {_spelt(repository): name for repository in repositories}
    near = difflib.get_close_matches(typed, spellings, n=1)
    return f" (did you mean {spellings[near[0]]}?)" if near else ""


def _spelt(name: str) -> str:
    """Letters and digits alone, with the short form of Stable Diffusion."""
    letters = re.sub("[^a-z0-9]", "", name.lower()).removesuffix("hf")
    return letters.replace("stablediffusion", "sd")


def _all_files() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(PUBLISHED.glob("*.json"))}
