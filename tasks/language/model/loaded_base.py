"""A causal language model without data: texts from prompts, and the whole model as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.base import LoadedBase
from tasks.language.model import bases
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.generation import BeamSearch, generate

if TYPE_CHECKING:
    import torch

    from tasks.language.model.bases import LanguageModel


class LoadedLanguageModel(LoadedBase):
    """A base by name or folder, on a device.

    `prompt_ids` gives the tokens of a prompt in the task's own form; `whole` keeps a text's later lines too.
    """

    def __init__(
        self,
        base: str,
        device: torch.device,
        generation: Mapping[str, Any],
        prompt_ids: Callable[[LanguageModel, str], list[int]],
        whole: bool = False,
        allow_pickle: bool = False,
    ):
        self.base = bases.load(base, device, allow_pickle)
        self.backbone = CausalLanguageModel(self.base.model, tuple(self.base.card["targets"]))
        self.revision = self.base.revision
        ban = generation.get("no_repeat_ngram_size")
        self.generation = {
            **generation,
            "no_repeat_ngram_size": self.base.card["generation"]["no_repeat_ngram_size"] if ban is None else ban,
        }
        self.prompt_ids, self.whole = prompt_ids, whole

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        self.base.model.eval()
        search = BeamSearch(**{**self.generation, **settings})
        return generate(self.base, [self.prompt_ids(self.base, prompt) for prompt in prompts], search, self.whole)

    def save(self, folder: Path) -> None:
        """A folder of transformers with the tokenizer, and the base's card."""
        model: Any = self.base.model
        model.save_pretrained(folder)
        self.base.tokenizer.save_pretrained(folder)
        (folder / "recommended.json").write_text(json.dumps(self.base.card, indent=2) + "\n")
