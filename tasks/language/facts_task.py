"""The prepared facts task: pairs as token rows, and what the model recalls of the values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.base import Evaluation, EvaluationCall, Metric
from tasks.cache import digest
from tasks.distributed import map_across_ranks
from tasks.errors import TaskError
from tasks.language.data.random_facts import RandomFacts
from tasks.language.language_task import LanguageTask, part_of
from tasks.language.metrics.answers import share_right
from tasks.language.metrics.recall import EXACT_RECALL, bits_recalled
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.likelihood import IGNORED, Row
from tasks.language.model.meta_model import EvaluationShape, LanguageMetaModel

LONGEST_FAMILIAR = 128  # tokens of a text on which drift is measured
BATCH = 128  # pairs are short
VALIDATION = 500


class MemorisedFacts(LanguageTask):
    """The loss counts the tokens of a value, given its key. Memory is measured on the trained pairs themselves, so the
    validation items are the first of them.
    """

    def __init__(self, base: LanguageModel, facts: RandomFacts, drift_items: int, metrics: Mapping[str, Metric]):
        super().__init__(base, metrics, drift_items)
        self.random_facts = facts
        self.select_items()

    def select_items(self) -> None:
        facts, base = self.random_facts, self.base
        if facts.row_length > base.positions:
            raise TaskError(
                f"a key and its value take {facts.row_length} positions, and '{base.name}' has {base.positions}: "
                "choose a smaller --task.key-tokens or --task.value-tokens"
            )
        self.familiar = self.familiar_rows(min(LONGEST_FAMILIAR, base.positions))
        start = base.document_ids("")
        self.training = [([*start, *key], value) for key, value in facts.draw(ordinary_tokens(base))]
        self.validation = self.training[:VALIDATION]
        self.train_items = len(self.training)
        self.facts = {
            "base": base.name,
            "base_revision": base.revision,
            "data": "random pairs",
            "train_items": self.train_items,
            "bits_per_pair": facts.bits,
            "bits": facts.bits * facts.pairs,
        }

    def evaluation_inputs(self) -> dict[str, Any]:
        return {"facts": asdict(self.random_facts), "rows": digest(json.dumps(self.training).encode())}

    def measure(self, output: Path | None, share: float | None) -> Evaluation:
        pairs, facts = part_of(range(len(self.training)), share), self.random_facts
        nats, right = self.recall([self.training[i] for i in pairs])
        of_all = "" if share is None else f", all {facts.pairs} pairs estimated from {len(pairs)}"
        extractor = f"{self.extractor}, values of {facts.bits:g} bits{of_all}"
        parameters = sum(p.numel() for p in self.base.model.parameters() if p.requires_grad)  # 0 for the untuned base
        figures = bits_recalled(nats, facts.bits, facts.pairs, extractor, parameters)
        figures[EXACT_RECALL.name] = share_right(EXACT_RECALL, right, self.extractor)
        likelihood_figures, artifacts = self.likelihood_figures(len(self.validation), share)
        items = [{"item": i, "nats": nats[k], "exact_recall": float(right[k])} for k, i in enumerate(pairs)]
        return Evaluation(figures | likelihood_figures, items, artifacts)

    @torch.no_grad()
    def recall(self, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropy of each pair's value in nats, and whether all of its tokens are the most likely ones; (n,)."""

        def measure(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
            batch, base = likelihood.padded(rows, self.base.device), self.base
            with base.backbone.computing():
                nats, right = likelihood.per_token(base.model, batch, nats_and_right, base.logits_at_once).unbind(-1)
            return nats.double().sum(dim=1).cpu().numpy(), right.bool().all(dim=1).cpu().numpy()

        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        nats, right = zip(*map_across_ranks(batches, measure), strict=True)
        return np.concatenate(nats), np.concatenate(right)


def nats_and_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Of each position (rows, 2): the cross-entropy, and 1 if the target is the most likely token; 0 and 1 where
    nothing is predicted."""
    nats = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    right = (logits.argmax(dim=-1) == targets) | (targets == IGNORED)
    return torch.stack([nats, right.float()], dim=-1)


def ordinary_tokens(base: LanguageModel) -> list[int]:
    """The token ids of the vocabulary without special tokens."""
    special = set(base.tokenizer.all_special_ids)
    return [token for token in range(len(base.tokenizer)) if token not in special]


class FactsMetaModel(LanguageMetaModel):
    """Pairs are as long as the rows."""

    def __init__(self, base: str, length: int, pairs: int, drift_items: int, logits_at_once: int):
        shape = EvaluationShape(min(VALIDATION, pairs), 2 * drift_items, LONGEST_FAMILIAR)
        super().__init__(base, length, evaluation=shape, logits_at_once=logits_at_once)
        self.pairs = pairs

    def evaluation(self, device: torch.device) -> Sequence[EvaluationCall]:
        size = min(BATCH, self.pairs)

        def recall() -> Tensor:
            batch = self._batch(size, self.max_length, device)
            return likelihood.per_token(self.backbone.model, batch, nats_and_right, self.logits_at_once)

        return [*super().evaluation(device), EvaluationCall(f"recall of {size} pairs", recall, -(-self.pairs // size))]
