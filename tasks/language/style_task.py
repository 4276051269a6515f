"""A prepared style task: a text's parts as tokens, the next-token loss, perplexity and drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Evaluation, Figure
from tasks.language.data import style_data
from tasks.language.language_task import TokenTask
from tasks.language.metrics.intervals import interval
from tasks.language.model import likelihood

if TYPE_CHECKING:
    import torch

    from tasks.language.style import Style


class TextModelling(TokenTask):
    """Each part begins with a start token and is cut in rows; every token of it is predicted once."""

    def __init__(self, task: Style, device: torch.device):
        super().__init__(task.base, device, task.allow_pickle)
        self.task = task
        self.splits = style_data.load(task.data, task.test_items)
        self.length = min(task.max_length, self.base.positions)
        self.training, _ = self._rows(self.splits.train)
        self.validation, _ = self._rows(self.splits.validation)
        self.test, self.test_parts = self._rows(self.splits.test)
        familiar = likelihood.familiar_texts(task.drift_items)
        self.familiar = likelihood.document_rows(self.base, familiar, self.length)
        self.train_items = len(self.training)
        self.facts = {
            "base": task.base,
            "base_revision": self.base.revision,
            "data": task.data,
            "data_revision": self.splits.revision,
            "train_items": len(self.training),
            "test_items": len(self.splits.test),
            "length": self.length,
        }

    def _rows(self, parts: Sequence[str]) -> tuple[list[likelihood.Row], np.ndarray]:
        """The parts' rows, and the part that each row comes from."""
        cut = [likelihood.windows(self.base.document_ids(part), self.length) for part in parts]
        return [row for rows in cut for row in rows], np.repeat(np.arange(len(cut)), [len(rows) for rows in cut])

    @property
    def evaluation_key(self) -> Any:
        return {
            "base": self.base.revision,
            "test": self.splits.test,
            "validation": self.splits.validation,
            "familiar": self.familiar,
            "length": self.length,
            "version": 1,
        }

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.base.model.eval()
        found = likelihood.losses(self.base, self.test)
        familiar = likelihood.losses(self.base, self.familiar)
        nats = np.bincount(self.test_parts, found.nats)
        loss = self.validation_loss()
        figures = {
            "perplexity": likelihood.perplexity(found, self.extractor, self.test_parts),
            "bits_per_byte": self._bits_per_byte(nats),
            "familiar_perplexity": likelihood.perplexity(familiar, self.extractor),
            "validation_loss": Figure(loss, "nats per token", len(self.splits.validation), self.extractor),
        }
        items = [{"item": i, "text": part, "nats": nats[i]} for i, part in enumerate(self.splits.test)]
        return Evaluation(figures, items, familiar.as_tensors())

    def _bits_per_byte(self, nats: np.ndarray) -> Figure:
        """`nats` a part, (n,)."""
        sizes = np.array([len(part.encode()) for part in self.splits.test])

        def statistic(chosen: np.ndarray) -> float:
            return float(nats[chosen].sum() / sizes[chosen].sum() / math.log(2))

        low, high = interval(statistic, len(nats))
        return Figure(statistic(np.arange(len(nats))), "bits per byte", len(nats), self.extractor, low, high)
