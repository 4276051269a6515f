"""A causal language model without data: generates texts and saves the whole model as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.base import LoadedBase
from tasks.bundled.bundled_bases import CARD
from tasks.language.model import bases
from tasks.language.model.bases import LanguageModel
from tasks.language.model.generation import BeamSearch, generate
from tasks.pretrained.precision import BasePrecision
from tasks.pretrained.revision import weights_digest

if TYPE_CHECKING:
    import torch


class LoadedLanguageModel(LoadedBase):
    """A base on a device, with the task's generation settings.

    `prompt_ids` tokenizes a prompt in the task's format; `all_lines` returns texts beyond their first line; `ends`
    are the tokens that end a text, if not the tokenizer's alone.
    """

    def __init__(
        self,
        base: str,
        device: torch.device,
        generation: Mapping[str, Any],
        prompt_ids: Callable[[LanguageModel, str], list[int]],
        all_lines: bool = False,
        allow_pickle: bool = False,
        ends: Callable[[LanguageModel], Sequence[int]] = lambda base: (),
        precision: BasePrecision | None = None,
    ):
        self.base = bases.load(base, device, allow_pickle, precision=precision)
        self.backbone = self.base.backbone
        self.revision = self.base.revision
        self.generation = self.base.generation_settings(generation)
        self.prompt_ids, self.all_lines, self.allow_pickle = prompt_ids, all_lines, allow_pickle
        self.ends = ends(self.base)

    def is_revision(self, recorded: str) -> bool:
        """The first release's records identify a folder by its weights alone."""
        if super().is_revision(recorded):
            return True
        return recorded == weights_digest(bases.find_source(self.base.name, self.allow_pickle).folder)

    def reserve_positions(self, count: int) -> None:
        self.base.reserve_positions(count)

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        self.base.model.eval()
        beam_search = BeamSearch(**{**self.generation, **settings})
        prompt_ids = [self.prompt_ids(self.base, prompt) for prompt in prompts]
        return generate(self.base, prompt_ids, beam_search, self.all_lines, self.ends)

    @property
    def tokenizer(self) -> Any:
        return self.base.tokenizer

    def save(self, folder: Path) -> None:
        """Write a transformers folder with the tokenizer and the base's card."""
        model: Any = self.base.model
        model.save_pretrained(folder)
        self.base.tokenizer.save_pretrained(folder)
        (folder / CARD).write_text(json.dumps(self.base.card, indent=2) + "\n")
