"""Next-token modelling of a text whose style differs from the base's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import bounded
from tasks.base import Task, declare
from tasks.language.metrics.perplexity import BITS_PER_BYTE, DRIFT, FAMILIAR_PERPLEXITY, PERPLEXITY, VALIDATION_LOSS
from tasks.language.settings import LanguageSettings
from tasks.pretrained.settings import LARGEST_ITEMS

if TYPE_CHECKING:
    import torch

    from tasks.data_report import DataReport
    from tasks.language.model.loaded_base import LoadedLanguageModel
    from tasks.language.model.meta_model import LanguageMetaModel
    from tasks.language.style_task import TextModelling


ROWS_PER_PART = 3  # a part of about 1,000 characters in rows of the default length


@dataclass(frozen=True)
class Style(LanguageSettings, Task, name="style"):
    """Style: next-token modelling of a text, measured by perplexity on held-out parts of it."""

    other_names = ("text", "causal-lm", "clm", "language-modeling", "language-modelling")
    metrics = declare(PERPLEXITY, BITS_PER_BYTE, FAMILIAR_PERPLEXITY, DRIFT, VALIDATION_LOSS)
    primary_metric = "perplexity"
    input_size_field = "max_length"
    option_hints: ClassVar = {
        "evaluation_seeds": "nothing in this evaluation is random: a text has the same perplexity each time",
        "block_size": "it is called --task.max-length here",
        "max_seq_length": "it is called --task.max-length here",
        "metrics": "the task generates no texts to score with another metric; see e2e",
        "max_new_tokens": "the task generates no texts; --task.max-length limits a training row",
        "train_file": "--task.data takes a text file",
        "train_items": "the whole text is used; --task.test-items limits validation and test",
        "validation_items": "--task.test-items limits validation and test alike",
    }

    data: str = "python-reference"
    """Text: "python-reference" (Python's language reference, absent from gpt-mini's pretraining), or a UTF-8 file."""
    max_length: int = bounded(128, at_least=2, at_most=LARGEST_ITEMS)
    """Maximum length of a training row, in tokens."""
    test_items: int = bounded(60, at_least=2, at_most=LARGEST_ITEMS)
    """Maximum number of parts (about 1,000 characters each) in validation, and in test."""

    def prepare(self, device: torch.device) -> TextModelling:
        from tasks.language.data import style_data
        from tasks.language.model import bases
        from tasks.language.style_task import TextModelling

        self.check_settings()
        splits = style_data.load(self.data, self.test_items)
        base = bases.load(self.base, device, self.allow_pickle, self.logits_at_once, self.base_precision)
        return TextModelling(base, splits, self.max_length, self.drift_items, self.metrics)

    def describe_data(self) -> DataReport:
        from tasks.language.data import style_data
        from tasks.language.data.report import report_of_text

        return report_of_text(style_data.load(self.data, self.test_items), self.base, self.max_length)

    def data_digest(self) -> str:
        from tasks.language.data import style_data

        return style_data.load(self.data, self.test_items).revision

    def meta_model(self) -> LanguageMetaModel:
        from tasks.language.model.meta_model import EvaluationShape, LanguageMetaModel

        shape = EvaluationShape(ROWS_PER_PART * self.test_items, 2 * self.drift_items, self.max_length)
        return LanguageMetaModel(self.base, self.max_length, evaluation=shape, logits_at_once=self.logits_at_once)

    def load_base(self, device: torch.device) -> LoadedLanguageModel:
        return self.load_for_text(device, num_beams=4, max_new_tokens=self.max_length)
