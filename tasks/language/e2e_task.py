"""A prepared data-to-text task: meanings and references as tokens, the loss on the text, generated texts, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Evaluation, Figure
from tasks.errors import TaskError
from tasks.language.data import e2e_data
from tasks.language.language_task import TokenTask
from tasks.language.metrics import slot_error_rate, text_metrics
from tasks.language.metrics.intervals import interval
from tasks.language.model import likelihood
from tasks.language.model.generation import BeamSearch, generate
from tasks.language.model.likelihood import Row

if TYPE_CHECKING:
    import torch

    from tasks.language.e2e import EndToEnd


class DataToText(TokenTask):
    """The prompt is the meaning's line; the text ends with the end-of-text token, and it alone counts in the loss."""

    def __init__(self, task: EndToEnd, device: torch.device):
        super().__init__(task.base, device, task.allow_pickle)
        self.task = task
        self.splits = e2e_data.load(task.data, task.train_items, task.test_items, task.on_bad_item)
        self.training, left_out = self._fitting(self._rows(self.splits.train))
        self.validation, _ = self._fitting(self._rows(self.splits.validation))
        if not self.training or not self.validation:
            raise TaskError(f"no meaning with its text fits the {self.base.positions} positions of '{task.base}'")
        ban = (
            self.base.card["generation"]["no_repeat_ngram_size"]
            if task.no_repeat_ngram_size is None
            else task.no_repeat_ngram_size
        )
        self.search = BeamSearch(task.num_beams, task.length_penalty, ban, task.max_new_tokens)
        self.names = slot_error_rate.known_names(item.meaning for item in (*self.splits.train, *self.splits.test))
        texts = likelihood.familiar_texts(task.drift_items)
        self.familiar = likelihood.document_rows(self.base, texts, self.base.positions // 2)
        too_long = {"training pairs longer than the base's positions": left_out}
        self.train_items = len(self.training)
        self.facts = {
            "base": task.base,
            "base_revision": self.base.revision,
            "data": task.data,
            "data_revision": self.splits.revision,
            "train_items": len(self.training),
            "train_meanings": len(self.splits.train),
            "test_items": len(self.splits.test),
            "generation": asdict(self.search),
            "left_out": too_long | self.splits.facts.get("left_out", {}),
            "left_out_items": self.splits.facts.get("left_out_items", {}),
        }

    def _prompt(self, item: e2e_data.Item) -> list[int]:
        return self.base.prompt_ids(e2e_data.prompt_of(item.line))

    def _rows(self, items: Sequence[e2e_data.Item]) -> list[Row]:
        """One row a reference."""
        end = [self.base.tokenizer.eos_token_id]
        return [
            (self._prompt(item), self.base.text_ids(reference) + end) for item in items for reference in item.references
        ]

    def _fitting(self, rows: list[Row]) -> tuple[list[Row], int]:
        """The rows that fit the model, and how many do not."""
        kept = [row for row in rows if len(row[0]) + len(row[1]) <= self.base.positions]
        return kept, len(rows) - len(kept)

    @property
    def label_smoothing(self) -> float:
        return self.task.label_smoothing

    @property
    def evaluation_key(self) -> Any:
        return {
            "base": self.base.revision,
            "items": [(item.line, item.references) for item in (*self.splits.validation, *self.splits.test)],
            "names": self.names,
            "familiar": self.familiar,
            "search": asdict(self.search),
            "version": 1,
        }

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.base.model.eval()
        test = self.splits.test
        texts = generate(self.base, [self._prompt(item) for item in test], self.search)
        references = [item.references for item in test]
        figures, columns = text_metrics.all_figures(texts, references)
        figures |= self._slot_figures(texts)
        figures["reference_perplexity"] = self._reference_perplexity()
        familiar = likelihood.losses(self.base, self.familiar)
        figures["familiar_perplexity"] = likelihood.perplexity(familiar, self.extractor)
        loss = self.validation_loss()
        figures["validation_loss"] = Figure(loss, "nats per token", len(self.validation), self.extractor)
        items = [
            {"item": i, "meaning": item.line, "text": text, "reference": item.references[0]}
            | asdict(slot_error_rate.slot_errors(item.meaning, text, self.names))
            | {name: column[i] for name, column in columns.items()}
            for i, (item, text) in enumerate(zip(test, texts, strict=True))
        ]
        if output is not None:
            _write(items, output)
        return Evaluation(figures, items, familiar.as_tensors())

    def _reference_perplexity(self) -> Figure:
        """Over the test meanings: all references of one are resampled together."""
        rows = self._rows(self.splits.test)
        groups = np.repeat(np.arange(len(self.splits.test)), [len(item.references) for item in self.splits.test])
        fits = [len(prompt) + len(text) <= self.base.positions for prompt, text in rows]
        kept, chosen = [row for row, fit in zip(rows, fits, strict=True) if fit], groups[np.array(fits)]
        compact = np.unique(chosen, return_inverse=True)[1]
        return likelihood.perplexity(likelihood.losses(self.base, kept), self.extractor, compact)

    def _slot_figures(self, texts: Sequence[str]) -> dict[str, Figure]:
        """Shares of the test meanings' slots; `ceiling` is what the references' first texts reach."""
        said, real = self._slot_counts(texts), self._slot_counts([item.references[0] for item in self.splits.test])
        slot_count = said[:, :3].sum(axis=1)  # right, wrong, missing
        extractor = "slot patterns of tasks/language/slot_error_rate.py"
        names = {"slot_accuracy": 0, "slots_wrong": 1, "slots_missing": 2, "slots_added": 3}
        figures = {}
        for name, column in names.items():
            low, high = interval(lambda i, c=column: said[i, c].sum() / slot_count[i].sum(), len(said))
            unit = "share" if name == "slot_accuracy" else "per slot"
            value, ceiling = (float(of[:, column].sum() / slot_count.sum()) for of in (said, real))
            figures[name] = Figure(value, unit, len(said), extractor, low, high, ceiling=ceiling)
        return figures

    def _slot_counts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, 4): right, wrong, missing and added slots of each text."""
        pairs = zip(self.splits.test, texts, strict=True)
        found = [slot_error_rate.slot_errors(item.meaning, text, self.names) for item, text in pairs]
        return np.array([(e.right, e.wrong, e.missing, e.added) for e in found])


def _write(items: list[dict[str, Any]], folder: Path) -> None:
    """The generated texts for people to read."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{item['meaning']}\n  text:      {item['text']}\n  reference: {item['reference']}\n" for item in items]
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
