"""Settings that the language tasks share, by the names of transformers' and peft's training scripts."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.bounds import bounded
from tasks.bundled.bundled_bases import LANGUAGE_MODEL
from tasks.language.model.bases import LOGITS_AT_ONCE, check_name, find_source
from tasks.pretrained.precision import BasePrecision
from tasks.pretrained.settings import LARGEST_ITEMS, PretrainedSettings

if TYPE_CHECKING:
    import torch

    from tasks.language.model.loaded_base import LoadedLanguageModel


# fields of a task that generates texts, and of a `tasks.language.model.generation.BeamSearch`
GENERATION = ("num_beams", "length_penalty", "no_repeat_ngram_size", "max_new_tokens")


@dataclass(frozen=True)
class LanguageSettings(PretrainedSettings, ABC):
    """The base and how drift is measured; a task is a subclass that is also a `Task`."""

    name: ClassVar[str]
    generates: ClassVar[Literal["texts"]] = "texts"
    evaluation_settings: ClassVar[tuple[str, ...]] = ("drift_items",)
    base: str = LANGUAGE_MODEL
    """Language model: the bundled "gpt-mini", a published one by name (gpt2, smollm2, llama, qwen and gemma with their
    sizes: "gpt2-medium", "llama-3.2-1b", "qwen3-8b", ...), a folder, or a hub repository "org/name" or
    "org/name@revision"."""
    allow_pickle: bool = False
    """Also accept weights in PyTorch's pickle format if the base has no safetensors. Only for files that you trust."""
    base_precision: BasePrecision | None = None
    """Storage of the frozen weights. Default: the dtype of --train.mixed-precision, fp32 where the weights themselves
    train. "nf4" (4 bits, as in QLoRA) and "int8" quantise the layers of the base with bitsandbytes on CUDA."""
    drift_items: int = bounded(60, at_least=2, at_most=LARGEST_ITEMS)
    """Texts of each kind of general English on which drift (forgetting) is measured."""
    logits_at_once: int = bounded(LOGITS_AT_ONCE, at_least=1, at_most=2**40)
    """Logits (tokens x vocabulary) that a loss computes together. More are computed in chunks, twice when training:
    that takes less memory and a little more time."""

    def check_base(self) -> None:
        check_name(self.base)

    def recommended(self, adapter: str) -> dict[str, Any]:
        """Training settings that the base's card recommends for this task and method."""
        from tasks.language.model.cards import recommended

        return recommended(self.base, self.name, adapter)

    def load_for_text(self, device: torch.device, **generation: Any) -> LoadedLanguageModel:
        """Load the base without its data, to continue any text; `generation` has the defaults of its generation."""
        from tasks.language.model.loaded_base import LoadedLanguageModel

        return LoadedLanguageModel(
            self.base,
            device,
            {"num_beams": 1, "length_penalty": 1.0, "no_repeat_ngram_size": None, **generation},
            prompt_ids=lambda base, prompt: base.document_ids(prompt),
            all_lines=True,
            allow_pickle=self.allow_pickle,
            precision=self.base_precision,
        )

    def base_revision(self) -> str:
        return find_source(self.base, self.allow_pickle).revision


class GeneratedTextSettings(LanguageSettings, ABC):
    """Of a task whose evaluation generates texts; it has the fields `GENERATION`."""

    evaluation_settings: ClassVar[tuple[str, ...]] = (*LanguageSettings.evaluation_settings, *GENERATION)

    def generation(self) -> dict[str, Any]:
        """The settings of the beam search."""
        return {name: getattr(self, name) for name in GENERATION}
