"""The prepared planted task of a language model: the teacher, the divergence from it, the share that is recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Evaluation, Metric
from tasks.distributed import map_across_ranks
from tasks.language.data.style_data import TextSplits
from tasks.language.metrics.perplexity import Losses
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.likelihood import EVALUATION_BATCH, IGNORED, Row, TokenBatch
from tasks.language.model.meta_model import LanguageMetaModel, masks_by_shape
from tasks.language.style_task import TextModelling
from tasks.planted.recovered import DISTANCE, RECOVERED, recovered
from tasks.planted.update import PlantedUpdate

CALIBRATION = 32  # training rows, on which the teacher's update is balanced


class LearnedTeacher(TextModelling):
    """The student reads the text's rows and learns the teacher's distribution of each next token."""

    def __init__(
        self,
        base: LanguageModel,
        splits: TextSplits,
        max_length: int,
        drift_items: int,
        metrics: Mapping[str, Metric],
        update: PlantedUpdate,
    ):
        self.update, self._teacher = update, None
        super().__init__(base, splits, max_length, drift_items, metrics)

    @property
    def teacher(self) -> nn.Module:
        """Made once, of the untuned base."""
        if self._teacher is None:
            batch = likelihood.padded(self.training[:CALIBRATION], self.base.device)
            forward = partial(likelihood.next_token_logits, self.base.model, batch)
            self._teacher = self.update.teacher(self.backbone, forward)
        return self._teacher

    def select_items(self) -> None:
        super().select_items()
        untuned = self.part_distances()  # no adapter is attached yet
        self.effects = untuned.nats
        self.facts |= self.update.facts(self.backbone) | {"effect": untuned.mean}

    def loss(self, batch: TokenBatch) -> Tensor:
        return divergence(self.base.model, self.teacher, batch).sum() / likelihood.target_tokens(batch)

    @torch.no_grad()
    def distances(self, rows: Sequence[Row]) -> Losses:
        """Nats of divergence from the teacher, and number of predicted tokens, of each row."""
        batches = [rows[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]

        def measure(part: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
            batch = likelihood.padded(part, self.base.device)
            nats = divergence(self.base.model, self.teacher, batch).double().sum(dim=1)
            return nats.cpu().numpy(), (batch.labels[:, 1:] != IGNORED).sum(dim=1).cpu().numpy()

        nats, tokens = zip(*map_across_ranks(batches, measure), strict=True)
        return Losses(np.concatenate(nats), np.concatenate(tokens))

    def part_distances(self) -> Losses:
        """Those of the test's rows, summed over the rows of each part."""
        losses = self.distances(self.test)
        return Losses(np.bincount(self.test_parts, losses.nats), np.bincount(self.test_parts, losses.tokens))

    def validation_loss(self) -> float:
        return self.distances(self.validation).mean

    def evaluation_inputs(self) -> dict[str, Any]:
        return super().evaluation_inputs() | {"teacher": asdict(self.update)}

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.base.model.eval()
        losses, count = self.part_distances(), len(self.splits.test)
        figures, artifacts = self.likelihood_figures(len(self.splits.validation))
        how = f"{self.extractor}, teacher of rank {self.update.rank}"
        distance = self.metrics[DISTANCE].figure(losses.mean, count, how)
        measured = {RECOVERED.name: recovered(losses.nats, self.effects, how), DISTANCE: distance}
        items = [
            {"item": i, "text": part, "distance": losses.nats[i], "effect": self.effects[i], "tokens": losses.tokens[i]}
            for i, part in enumerate(self.splits.test)
        ]
        return Evaluation(measured | figures, items, artifacts)


def divergence(student: nn.Module, teacher: nn.Module, batch: TokenBatch) -> Tensor:
    """KL(teacher || student) of each predicted token (n, length - 1), in nats; 0 where nothing is predicted."""
    logits, targets = likelihood.next_token_logits(student, batch)
    with torch.no_grad():
        wanted, _ = likelihood.next_token_logits(teacher, batch)
    each = F.kl_div(logits.log_softmax(-1), wanted.log_softmax(-1), reduction="none", log_target=True).sum(dim=-1)
    return each * (targets != IGNORED)


class TeacherMetaModel(LanguageMetaModel):
    """The student and its teacher, which is on the device too."""

    def __init__(self, base: str, max_length: int, update: PlantedUpdate):
        super().__init__(base, max_length)
        self.teacher = update.teacher(self.backbone, None)
        self.frozen = {"teacher": self.teacher}

    def loss(self, batch: TokenBatch) -> Tensor:
        with masks_by_shape():
            return divergence(self.backbone.model, self.teacher, batch).sum() / batch.labels[:, 1:].numel()
