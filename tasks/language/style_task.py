"""The prepared style task: parts of a text as token rows, perplexity on held-out parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bad_items import print_left_out
from tasks.base import Evaluation, Metric
from tasks.language.data.rows import row_length, rows_by_part
from tasks.language.data.style_data import TextSplits
from tasks.language.language_task import LanguageTask, part_of
from tasks.language.metrics.perplexity import BITS_PER_BYTE, PERPLEXITY, bits_per_byte, perplexity
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.likelihood import Row


class TextModelling(LanguageTask):
    """Each part starts with a start token and is cut into rows; every token of it is predicted once."""

    def __init__(
        self,
        base: LanguageModel,
        splits: TextSplits,
        max_length: int,
        drift_items: int,
        metrics: Mapping[str, Metric],
    ):
        super().__init__(base, metrics, drift_items)
        self.splits, self.requested_length = splits, max_length
        self.select_items()

    def select_items(self) -> None:
        splits, before = self.splits, self.facts
        self.max_length = row_length(self.base, self.requested_length)
        self.familiar = self.familiar_rows(self.max_length)
        self.training, _ = self._rows(splits.train)
        self.validation, _ = self._rows(splits.validation)
        self.test, self.test_parts = self._rows(splits.test)
        self.train_items = len(self.training)
        self.facts = self.shared_facts(splits) | {"test_items": len(splits.test), "max_length": self.max_length}
        print_left_out(self.facts, before)

    def _rows(self, parts: Sequence[str]) -> tuple[list[Row], np.ndarray]:
        """All rows of the parts, and the index of the part that each row comes from."""
        by_part = rows_by_part(self.base, parts, self.max_length)
        counts = [len(rows) for rows in by_part]
        return [row for rows in by_part for row in rows], np.repeat(np.arange(len(by_part)), counts)

    def evaluation_inputs(self) -> dict[str, Any]:
        return {"test": self.splits.test, "validation_parts": len(self.splits.validation), "length": self.max_length}

    def test_rows(self, share: float | None) -> tuple[list[int], list[Row], np.ndarray]:
        """The test's parts of the text or a share of them, their rows, and which of these parts each row is from."""
        parts = part_of(range(len(self.splits.test)), share)
        chosen = np.isin(self.test_parts, parts)
        rows = [row for row, is_chosen in zip(self.test, chosen, strict=True) if is_chosen]
        return parts, rows, np.searchsorted(parts, self.test_parts[chosen])

    def measure(self, output: Path | None, share: float | None) -> Evaluation:
        parts, rows, groups = self.test_rows(share)
        losses = likelihood.losses(self.base, rows)
        nats, texts = np.bincount(groups, losses.nats), [self.splits.test[i] for i in parts]  # of each part
        likelihood_figures, artifacts = self.likelihood_figures(len(self.splits.validation), share)
        figures = {}
        if PERPLEXITY.name in self.metrics:
            figures[PERPLEXITY.name] = perplexity(PERPLEXITY, losses, self.extractor, groups)
        if BITS_PER_BYTE.name in self.metrics:
            figures[BITS_PER_BYTE.name] = bits_per_byte(nats, texts, self.extractor)
        items = [{"item": i, "text": self.splits.test[i], "nats": nats[k]} for k, i in enumerate(parts)]
        return Evaluation(figures | likelihood_figures, items, artifacts)
