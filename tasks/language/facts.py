"""Memorising random facts: how many bits an adapter stores (Allen-Zhu & Li 2024, Morris et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import bounded
from tasks.base import Task, declare
from tasks.language.metrics.perplexity import DRIFT, FAMILIAR_PERPLEXITY, VALIDATION_LOSS
from tasks.language.metrics.recall import BITS_PER_PARAMETER, BITS_RECALLED, EXACT_RECALL
from tasks.language.settings import LanguageSettings
from tasks.pretrained.settings import LARGEST_ITEMS

if TYPE_CHECKING:
    import torch

    from tasks.data_report import DataReport
    from tasks.language.data.random_facts import RandomFacts
    from tasks.language.facts_task import MemorisedFacts
    from tasks.language.model.loaded_base import LoadedLanguageModel
    from tasks.language.model.meta_model import LanguageMetaModel


@dataclass(frozen=True)
class Facts(LanguageSettings, Task, name="facts"):
    """Facts: memorise random pairs of a key and a value of known entropy; measured by the bits recalled."""

    other_names = ("memorization", "memorisation", "capacity", "key-value", "random-facts")
    metrics = declare(
        *(BITS_RECALLED, BITS_PER_PARAMETER, EXACT_RECALL),
        *(FAMILIAR_PERPLEXITY, DRIFT, VALIDATION_LOSS),
    )
    primary_metric = "bits_recalled"
    option_hints: ClassVar = {
        "data": "the pairs are drawn: see --task.pairs",
        "train_items": "it is called --task.pairs here",
        "test_items": "memory is measured on the trained pairs",
        "seed": "--task.facts-seed draws the pairs, --train.seed initialisation and order",
    }

    pairs: int = bounded(208, at_least=2, at_most=LARGEST_ITEMS)
    """N, the number of pairs. Bits recalled grow with it until the adapter is full."""
    key_tokens: int = bounded(3, at_least=1, at_most=1000)
    """Length of a key: random tokens of the base's vocabulary."""
    value_tokens: int = bounded(8, at_least=1, at_most=1000)
    """Length of a value."""
    symbols: int = bounded(1024, at_least=2, at_most=LARGEST_ITEMS)
    """Number of different tokens in values. A value has value-tokens * log2(symbols) bits."""
    facts_seed: int = bounded(0, at_least=0, at_most=2**32)
    """Seed of the pairs, which all runs share."""

    @property
    def facts(self) -> RandomFacts:
        from tasks.language.data.random_facts import RandomFacts

        return RandomFacts(self.pairs, self.key_tokens, self.value_tokens, self.symbols, self.facts_seed)

    def prepare(self, device: torch.device) -> MemorisedFacts:
        from tasks.language.facts_task import MemorisedFacts
        from tasks.language.model import bases

        self.check_settings()
        base = bases.load(self.base, device, self.allow_pickle, self.logits_at_once, self.base_precision)
        return MemorisedFacts(base, self.facts, self.drift_items, self.metrics)

    def describe_data(self) -> DataReport:
        from tasks.data_report import DataReport

        tokens = f"{self.value_tokens} tokens of {self.symbols} different ones"
        value = f"{tokens}, {self.facts.bits:g} bits each, {self.pairs * self.facts.bits:,.0f} in all"
        return DataReport({"pairs": f"{self.pairs} drawn", "keys": f"{self.key_tokens} random tokens", "values": value})

    def data_digest(self) -> None:
        """The pairs are drawn."""

    def meta_model(self) -> LanguageMetaModel:
        from tasks.language.facts_task import FactsMetaModel

        return FactsMetaModel(self.base, self.facts.row_length, self.pairs, self.drift_items, self.logits_at_once)

    def load_base(self, device: torch.device) -> LoadedLanguageModel:
        return self.load_for_text(device, no_repeat_ngram_size=0, max_new_tokens=self.value_tokens)
