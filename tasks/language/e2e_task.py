"""The prepared data-to-text task: meanings and references as tokens, generated texts and their metrics."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bad_items import print_left_out
from tasks.base import Evaluation, Figure, Metric
from tasks.language.data.e2e_data import MeaningSplits
from tasks.language.data.meanings import Item
from tasks.language.data.rows import fitting_items, prompt_ids, reference_rows, row_fits
from tasks.language.language_task import LanguageTask, part_of
from tasks.language.metrics.perplexity import REFERENCE_PERPLEXITY, perplexity
from tasks.language.metrics.slot_error_rate import SLOT_METRICS, SlotErrors, slot_errors, slot_figures
from tasks.language.metrics.slot_patterns import SLOTS, known_names
from tasks.language.metrics.text_figures import text_figures
from tasks.language.metrics.text_metric import Corpus, TextMetric
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.generation import BeamSearch, generate

SLOT_NAMES = {metric.name for metric in SLOT_METRICS}


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
        super().__init__(base, metrics, drift_items, label_smoothing)
        self.splits = splits
        self.beam_search = BeamSearch(**base.generation_settings(generation))
        self.names = known_names(item.meaning for item in (*splits.train, *splits.test))
        self.select_items()

    def select_items(self) -> None:
        splits, positions = self.splits, self.base.positions
        half = (positions + self.base.reserved_positions) // 2  # of the model's, whatever the method takes
        self.familiar = self.familiar_rows(min(half, positions))
        fitting = fitting_items(self.base, splits)
        fitting.require_items(self.base, splits)
        self.training, self.validation, self.test = fitting.train, fitting.validation, fitting.test
        self.train_items = len(self.training)
        before, self.facts = (
            self.facts,
            self.shared_facts(splits)
            | {
                "train_meanings": len(splits.train),
                "test_items": len(self.test),
                "generation": asdict(self.beam_search),
                "left_out": {kind: len(lines) for kind, lines in fitting.left_out.items()}
                | splits.facts.get("left_out", {}),
                "left_out_items": splits.facts.get("left_out_items", {}),
            },
        )
        print_left_out(self.facts, before)

    def evaluation_inputs(self) -> dict[str, Any]:
        return {
            "test": [(item.line, item.references) for item in self.test],
            "names": self.names,
            "generation": asdict(self.beam_search),
        }

    def not_measured(self, figures: Container[str]) -> dict[str, str]:
        """Why each metric of the task that has no figure was left out."""
        reasons = {}
        for name, metric in self.metrics.items():
            if name in SLOT_NAMES:
                reasons[name] = f"no test meaning has any of the slots {', '.join(SLOTS)}"
            elif isinstance(metric, TextMetric):
                reasons[name] = f"could not be computed from these texts with {' and '.join(metric.needs)}"
        return {name: reason for name, reason in reasons.items() if name not in figures}

    def measure(self, output: Path | None, share: float | None) -> Evaluation:
        test = part_of(self.test, share)
        texts = generate(self.base, [prompt_ids(self.base, item) for item in test], self.beam_search)
        figures, columns = text_figures(self.metrics.values(), Corpus(texts, [item.references for item in test]))
        errors = self._slot_errors(test, texts)
        figures |= slot_figures(self.metrics, errors, self._slot_errors(test, [item.references[0] for item in test]))
        if REFERENCE_PERPLEXITY.name in self.metrics:
            figures[REFERENCE_PERPLEXITY.name] = self._reference_perplexity(test)
        not_measured = self.not_measured(figures)
        likelihood_figures, artifacts = self.likelihood_figures(len(self.validation), share)
        items = [
            {"item": i, "meaning": item.line, "text": text, "reference": item.references[0]}
            | asdict(errors[i])
            | {name: column[i] for name, column in columns.items()}
            for i, (item, text) in enumerate(zip(test, texts, strict=True))
        ]
        if output is not None:
            _write_texts(items, output)
        return Evaluation(figures | likelihood_figures, items, artifacts, not_measured)

    def _reference_perplexity(self, test: Sequence[Item]) -> Figure:
        """Over the test meanings; the interval resamples a meaning with all its references."""
        rows = reference_rows(self.base, test)
        meanings = np.repeat(np.arange(len(test)), [len(item.references) for item in test])
        fits = np.array([row_fits(self.base, row) for row in rows])
        losses = likelihood.losses(self.base, [row for row, fit in zip(rows, fits, strict=True) if fit])
        groups = np.unique(meanings[fits], return_inverse=True)[1]
        return perplexity(REFERENCE_PERPLEXITY, losses, self.extractor, groups)

    def _slot_errors(self, test: Sequence[Item], texts: Sequence[str]) -> list[SlotErrors]:
        pairs = zip(test, texts, strict=True)
        return [slot_errors(item.meaning, text, self.names) for item, text in pairs]


def _write_texts(items: list[dict[str, Any]], folder: Path) -> None:
    """Write the generated texts to texts.txt, next to their meanings and first references."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{item['meaning']}\n  text:      {item['text']}\n  reference: {item['reference']}\n" for item in items]
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
