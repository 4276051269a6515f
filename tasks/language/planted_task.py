"""The prepared planted task of a language model: the teacher, the divergence from it, the share that is recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
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
from tasks.language.model.chunked_logits import by_chunk, final_states, fits, head_of, logits_of
from tasks.language.model.likelihood import EVALUATION_BATCH, IGNORED, Row, TokenBatch
from tasks.language.model.meta_model import EvaluationShape, LanguageMetaModel
from tasks.language.style_task import TextModelling
from tasks.planted.recovered import DISTANCE, RECOVERED, recovered
from tasks.planted.update import PlantedUpdate, Teacher

CALIBRATION = 64  # training rows, on which the teacher's update is balanced


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
        self.update = update
        update.prepare(base.backbone)
        super().__init__(base, splits, max_length, drift_items, metrics)

    @cached_property
    def teacher(self) -> Teacher:
        """Made once, of the untuned base."""
        with self.backbone.computing():
            return self.update.teacher(self.backbone, self._probe)

    def _probe(self) -> None:
        """Run the model on training rows, and back from tokens that it draws; one by one, without padding."""
        generator = torch.Generator().manual_seed(0)
        for row in self.training[:CALIBRATION]:
            logits = likelihood.next_token_logits(self.base.model, likelihood.padded([row], self.base.device))
            logits = logits.float().flatten(0, -2)
            drawn = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=generator).flatten()
            F.cross_entropy(logits, drawn.to(logits.device), reduction="sum").backward()

    def select_items(self) -> None:
        super().select_items()
        self.teacher  # noqa: B018  (before an adapter is attached)
        self._effects: dict[str, Losses] = {}
        self.facts |= self.update.facts(self.backbone) | {"effect": self.effects.mean}

    @property
    def effects(self) -> Losses:
        """Divergence of the untuned base from the teacher at each part of the test, in the run's precision."""
        compute = self.backbone.compute
        if compute not in self._effects:
            _, self._effects[compute] = self.part_distances(self.teacher.untuned)
        return self._effects[compute]

    def loss(self, batch: TokenBatch) -> Tensor:
        batch = batch.to(self.base.device)
        return self.divergence(self.base.model, batch).sum() / likelihood.target_tokens(batch)

    def divergence(self, student: nn.Module, batch: TokenBatch) -> Tensor:
        return divergence(student, self.teacher.model, batch, self.base.logits_at_once)

    @torch.no_grad()
    def distances(self, student: nn.Module, rows: Sequence[Row]) -> Losses:
        """Nats of divergence from the teacher, and number of predicted tokens, of each row."""
        batches = [rows[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]

        def measure(part: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
            batch = likelihood.padded(part, self.base.device)
            with self.backbone.computing():
                nats = self.divergence(student, batch).double().sum(dim=1)
            return nats.cpu().numpy(), (batch.labels[:, 1:] != IGNORED).sum(dim=1).cpu().numpy()

        nats, tokens = zip(*map_across_ranks(batches, measure), strict=True)
        return Losses(np.concatenate(nats), np.concatenate(tokens))

    def part_distances(self, student: nn.Module, share: float | None = None) -> tuple[list[int], Losses]:
        """The test's parts or a share of them, and the distances of their rows, summed over the rows of each part."""
        parts, rows, groups = self.test_rows(share)
        losses = self.distances(student, rows)
        return parts, Losses(np.bincount(groups, losses.nats), np.bincount(groups, losses.tokens))

    def validation_loss(self) -> float:
        return self.distances(self.base.model, self.validation).mean

    def evaluation_inputs(self) -> dict[str, Any]:
        return super().evaluation_inputs() | {"teacher": asdict(self.update)}

    def measure(self, output: Path | None, share: float | None) -> Evaluation:
        parts, losses = self.part_distances(self.base.model, share)
        effects = self.effects.nats[parts]
        figures, artifacts = self.likelihood_figures(len(self.splits.validation), share)
        how = f"{self.extractor}, teacher of rank {self.update.rank}"
        distance = self.metrics[DISTANCE].figure(losses.mean, len(parts), how)
        measured = {RECOVERED.name: recovered(losses.nats, effects, how), DISTANCE: distance}
        items = [
            {"item": i, "text": self.splits.test[i]}
            | {"distance": losses.nats[k], "effect": effects[k], "tokens": losses.tokens[k]}
            for k, i in enumerate(parts)
        ]
        return Evaluation(measured | figures, items, artifacts)


def divergence(student: nn.Module, teacher: nn.Module, batch: TokenBatch, logits_at_once: int) -> Tensor:
    """KL(teacher || student) of each predicted token (n, length - 1), in nats; 0 where nothing is predicted.

    More than `logits_at_once` logits are computed in chunks.
    """
    targets = batch.labels[:, 1:]
    if fits(student, targets, logits_at_once):
        logits = likelihood.next_token_logits(student, batch)
        with torch.no_grad():
            wanted = likelihood.next_token_logits(teacher, batch)
        return _divergence(logits, wanted) * (targets != IGNORED)
    head = head_of(teacher)
    with torch.no_grad():
        states = final_states(teacher, batch.tokens)[:, :-1]

    def reduced(logits: Tensor, states: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = logits_of(head, states)
        return _divergence(logits, wanted)

    each = torch.cat(by_chunk(student, batch.tokens, states, reduced, logits_at_once))
    return each.view_as(targets) * (targets != IGNORED)


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """KL of the distributions with these logits (..., vocabulary)."""
    return F.kl_div(logits.log_softmax(-1), wanted.log_softmax(-1), reduction="none", log_target=True).sum(dim=-1)


class TeacherMetaModel(LanguageMetaModel):
    """The student and its teacher, which is on the device too."""

    def __init__(self, base: str, max_length: int, update: PlantedUpdate, shape: EvaluationShape, logits_at_once: int):
        super().__init__(base, max_length, evaluation=shape, logits_at_once=logits_at_once)
        update.prepare(self.backbone)
        self.teacher = update.teacher(self.backbone, None)
        self.frozen = {"teacher": self.teacher}

    def loss(self, batch: TokenBatch) -> Tensor:
        return self.measure(batch).sum() / batch.labels[:, 1:].numel()

    def measure(self, batch: TokenBatch) -> Tensor:
        return divergence(self.backbone.model, self.teacher.model, batch, self.logits_at_once)
