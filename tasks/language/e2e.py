"""Data-to-text generation on the E2E data's slots (Novikova et al. 2017), as in LoRA's Table 3 (Hu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bad_items import OnBadItem
from tasks.base import Metric, Task, declare
from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from tasks.language.e2e_task import DataToText
    from tasks.language.model.bases import LanguageModel
    from tasks.language.model.loaded_base import LoadedLanguageModel
    from tasks.language.model.meta_model import LanguageMetaModel

METRICS = declare(
    Metric("bleu", "higher", "%", "n-grams shared with the references (BLEU)"),
    Metric("nist", "higher", "", "the same, weighted by information (NIST)"),
    Metric("meteor", "higher", "%", "words, stems and synonyms shared with a reference (METEOR)"),
    Metric("rouge_l", "higher", "%", "longest common subsequence with a reference (ROUGE-L)"),
    Metric("cider", "higher", "", "n-grams shared with the references, weighted by rarity (CIDEr)"),
    Metric("slot_accuracy", "higher", "share", "slots of the meaning that the text says rightly"),
    Metric("slots_missing", "lower", "per slot", "slots of the meaning that the text leaves out"),
    Metric("slots_wrong", "lower", "per slot", "slots that the text says with another value"),
    Metric("slots_added", "lower", "per slot", "slots that the text says and the meaning has not"),
    Metric("reference_perplexity", "lower", "per token", "perplexity of the references, given their meaning"),
    Metric("familiar_perplexity", "lower", "per token", "perplexity of held-out text of the base's own kinds"),
    Metric("drift", "lower", "nats per token", "how much worse familiar text is predicted than by the base"),
    Metric("validation_loss", "lower", "nats per token", "loss on kept items, without label smoothing"),
)


@dataclass(frozen=True)
class EndToEnd(Task, name="e2e"):
    """Data to text: from "name[The Mill], food[Thai]" to a sentence about a restaurant (Hu et al. 2021, Table 3)."""

    metrics = METRICS
    primary_metric = "bleu"

    base: str = "gpt-mini"
    """The language model: the bundled "gpt-mini", a published one by its name ("gpt2", "gpt2-medium", "smollm2-135m",
    ...), a folder, or a hub name such as "org/name" or "org/name@revision"."""
    allow_pickle: bool = False
    """Take weights in PyTorch's old pickle format too, where there are no safetensors."""
    data: str = "restaurants"
    """"restaurants" (drawn), the folder of the official CSV files, one CSV file (split by meaning), or a hub name."""
    on_bad_item: OnBadItem = "fail"
    """A row without a text, or whose meaning cannot be read: fail and name it, or skip and count it in the record."""
    train_items: int = 1000
    """Meanings drawn for training (other data are taken whole)."""
    test_items: int = 60
    """Meanings in validation and in test, at most."""
    label_smoothing: float = 0.1
    """Share of the target spread over the vocabulary, in training."""
    num_beams: int = 4
    """Width of the beam search (the paper's is 10)."""
    length_penalty: float = 0.9
    """Exponent of the length by which a beam's score is divided (the paper's; its released code has 0.8)."""
    no_repeat_ngram_size: int | None = None
    """No n-gram of so many tokens occurs twice in a text; 0 allows all. Default: the base's card (the paper's is 4)."""
    max_new_tokens: int = 80
    """Length of a generated text, at most."""
    drift_items: int = 60
    """Texts of each of the base's own kinds on which drift is measured."""

    def recommended(self, adapter: str) -> dict[str, Any]:
        from tasks.language.model.bases import recommended

        return recommended(self.base, self.name, adapter)

    def prepare(self, device: torch.device) -> DataToText:
        from tasks.language.e2e_task import DataToText

        if not 0 <= self.label_smoothing < 1:
            raise TaskError(f"--task.label-smoothing must be at least 0 and below 1, not {self.label_smoothing}")
        least = {"train_items": 1, "test_items": 2, "num_beams": 1, "no_repeat_ngram_size": 0, "max_new_tokens": 1}
        for name, lowest in (least | {"drift_items": 2}).items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least {lowest}, not {value}")
        return DataToText(self, device)

    def meta_model(self) -> LanguageMetaModel:
        from tasks.language.model.meta_model import LanguageMetaModel

        # a meaning's line and its text have about as many tokens
        return LanguageMetaModel(self.base, 2 * self.max_new_tokens, self.label_smoothing)

    def load_base(self, device: torch.device) -> LoadedLanguageModel:
        from tasks.language.model.loaded_base import LoadedLanguageModel

        search = {
            name: getattr(self, name)
            for name in ("num_beams", "length_penalty", "no_repeat_ngram_size", "max_new_tokens")
        }
        return LoadedLanguageModel(self.base, device, search, meaning_ids, allow_pickle=self.allow_pickle)


def meaning_ids(base: LanguageModel, prompt: str) -> list[int]:
    """The tokens of a meaning that somebody typed. Raises TaskError where it is none."""
    from tasks.language.data.e2e_data import parse_meaning, prompt_of

    try:
        parse_meaning(prompt)
    except ValueError as error:
        raise TaskError(
            f"the prompt '{prompt}' cannot be read ({error}): expected 'name[The Mill], food[Thai]'"
        ) from None
    return base.prompt_ids(prompt_of(prompt.strip()))
