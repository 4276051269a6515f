"""The prepared data-to-text task: meanings and references as tokens, generated texts and their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks.base import Evaluation, Figure, Metric
from tasks.errors import TaskError
from tasks.language.data.e2e_data import Item, MeaningSplits, prompt_of
from tasks.language.language_task import LanguageTask
from tasks.language.metrics.perplexity import REFERENCE_PERPLEXITY, perplexity
from tasks.language.metrics.slot_error_rate import SlotErrors, slot_errors, slot_figures
from tasks.language.metrics.slot_patterns import known_names
from tasks.language.metrics.text_figures import text_figures
from tasks.language.metrics.text_metric import Corpus
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.generation import BeamSearch, generate
from tasks.language.model.likelihood import Row


class DataToText(LanguageTask):
    """The prompt is the line of the meaning; the loss counts only the text and its end-of-text token."""

    def __init__(
        self,
        base: LanguageModel,
        splits: MeaningSplits,
        generation: Mapping[str, Any],
        label_smoothing: float,
        drift_items: int,
        metrics: Mapping[str, Metric],
    ):
        super().__init__(base, metrics, drift_items, base.positions // 2, label_smoothing)
        self.splits = splits
        self.beam_search = BeamSearch(**base.generation_settings(generation))
        self.training, too_long = self._usable(self._rows(splits.train))
        self.validation, _ = self._usable(self._rows(splits.validation))
        if not self.training or not self.validation:
            raise TaskError(
                f"no meaning with its text fits the {base.positions} positions of '{base.name}': use a base with more"
            )
        self.names = known_names(item.meaning for item in (*splits.train, *splits.test))
        self.train_items = len(self.training)
        self.facts = self.base_facts() | {
            "data": splits.source,
            "data_revision": splits.revision,
            "train_items": len(self.training),
            "train_meanings": len(splits.train),
            "test_items": len(splits.test),
            "generation": asdict(self.beam_search),
            "left_out": {"training pairs longer than the base's positions": too_long}
            | splits.facts.get("left_out", {}),
            "left_out_items": splits.facts.get("left_out_items", {}),
        }

    def _prompt(self, item: Item) -> list[int]:
        return self.base.prompt_ids(prompt_of(item.line))

    def _rows(self, items: Sequence[Item]) -> list[Row]:
        """One row per reference."""
        end = [self.base.tokenizer.eos_token_id]
        return [
            (self._prompt(item), self.base.text_ids(reference) + end) for item in items for reference in item.references
        ]

    def _fits(self, row: Row) -> bool:
        return len(row[0]) + len(row[1]) <= self.base.positions

    def _usable(self, rows: list[Row]) -> tuple[list[Row], int]:
        """The rows that fit the model's positions, and the number of those that do not."""
        usable = [row for row in rows if self._fits(row)]
        return usable, len(rows) - len(usable)

    def evaluation_inputs(self) -> dict[str, Any]:
        return {
            "test": [(item.line, item.references) for item in self.splits.test],
            "names": self.names,
            "generation": asdict(self.beam_search),
        }

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.base.model.eval()
        test = self.splits.test
        texts = generate(self.base, [self._prompt(item) for item in test], self.beam_search)
        figures, columns = text_figures(self.metrics.values(), Corpus(texts, [item.references for item in test]))
        errors = self._slot_errors(texts)
        figures |= slot_figures(self.metrics, errors, self._slot_errors([item.references[0] for item in test]))
        if REFERENCE_PERPLEXITY.name in self.metrics:
            figures[REFERENCE_PERPLEXITY.name] = self._reference_perplexity()
        likelihood_figures, artifacts = self.likelihood_figures(len(self.validation))
        items = [
            {"item": i, "meaning": item.line, "text": text, "reference": item.references[0]}
            | asdict(errors[i])
            | {name: column[i] for name, column in columns.items()}
            for i, (item, text) in enumerate(zip(test, texts, strict=True))
        ]
        if output is not None:
            _write_texts(items, output)
        return Evaluation(figures | likelihood_figures, items, artifacts)

    def _reference_perplexity(self) -> Figure:
        """Over the test meanings; the interval resamples a meaning with all its references."""
        rows = self._rows(self.splits.test)
        meanings = np.repeat(np.arange(len(self.splits.test)), [len(item.references) for item in self.splits.test])
        fits = np.array([self._fits(row) for row in rows])
        losses = likelihood.losses(self.base, [row for row, fit in zip(rows, fits, strict=True) if fit])
        groups = np.unique(meanings[fits], return_inverse=True)[1]
        return perplexity(REFERENCE_PERPLEXITY, losses, self.extractor, groups)

    def _slot_errors(self, texts: Sequence[str]) -> list[SlotErrors]:
        pairs = zip(self.splits.test, texts, strict=True)
        return [slot_errors(item.meaning, text, self.names) for item, text in pairs]


def _write_texts(items: list[dict[str, Any]], folder: Path) -> None:
    """Write the generated texts to texts.txt, next to their meanings and first references."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{item['meaning']}\n  text:      {item['text']}\n  reference: {item['reference']}\n" for item in items]
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
