"""What the prepared language tasks share: batches of token rows, the next-token loss, drift, the evaluation's key."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from tasks.base import Evaluation, Figure, Metric, PreparedTask
from tasks.fixed_part import fixed_part
from tasks.language.data import general_english
from tasks.language.metrics.perplexity import DRIFT, FAMILIAR_PERPLEXITY, VALIDATION_LOSS, Losses, drift, perplexity
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.likelihood import Row, TokenBatch
from tasks.shuffling import shuffled_indices

CPU = torch.device("cpu")
Item = TypeVar("Item")


class Splits(Protocol):
    """Data in splits: where they come from, their digest, and what is left out."""

    @property
    def source(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...


class LanguageTask(PreparedTask):
    """A task whose training and validation items are `Row`s of tokens.

    Evaluations carry the losses on general English as artifacts, from which `finish` computes drift.
    """

    training: list[Row]
    train_items: int
    validation: list[Row]
    familiar: list[Row]  # on which drift is measured

    def __init__(
        self,
        base: LanguageModel,
        metrics: Mapping[str, Metric],
        drift_items: int,
        label_smoothing: float = 0.0,
    ):
        """`label_smoothing` is for training."""
        self.base, self.metrics, self.drift_items, self.label_smoothing = base, metrics, drift_items, label_smoothing
        self.facts: dict[str, Any] = {}
        self.backbone = base.backbone

    @abstractmethod
    def select_items(self) -> None:
        """Set all items and `facts` to what fits the base's positions. Raises TaskError if nothing does."""

    def reserve_positions(self, count: int) -> None:
        if count != self.base.reserved_positions:
            self.base.reserve_positions(count)
            self.select_items()

    def familiar_rows(self, max_length: int) -> list[Row]:
        """General English, at most `max_length` tokens of each text."""
        return likelihood.document_rows(self.base, general_english.texts(self.drift_items), max_length)

    def shared_facts(self, splits: Splits) -> dict[str, Any]:
        """The facts that all language tasks record of their base and their data."""
        return {
            "base": self.base.name,
            "base_revision": self.base.revision,
            **splits.facts,
            "data": splits.source,
            "data_revision": splits.revision,
            "train_items": len(self.training),
        }

    def batches(self, seed: int, start: int, size: int) -> Iterator[TokenBatch]:
        step = start
        while True:
            yield self.batch(shuffled_indices(seed, step, size, self.train_items))
            step += 1

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The training items with these indices."""
        return likelihood.padded([self.training[i] for i in indices], CPU)

    def loss(self, batch: TokenBatch) -> Tensor:
        return likelihood.cross_entropy(
            self.base.model, batch.to(self.base.device), self.label_smoothing, self.base.logits_at_once
        )

    def weight(self, batch: TokenBatch) -> float:
        return likelihood.target_tokens(batch)

    def tokens(self, batch: TokenBatch) -> int:
        return batch.read

    def validation_loss(self) -> float:
        return likelihood.losses(self.base, self.validation).mean

    @property
    def extractor(self) -> str:
        """How likelihoods are measured."""
        return f"{self.base.name}'s own tokens"

    @property
    def evaluation_key(self) -> Any:
        return {
            "base": self.base.revision,
            "metrics": [metric.implementation() for metric in self.metrics.values()],
            "validation": self.validation,
            "familiar": self.familiar,
            **self.evaluation_inputs(),
        }

    @abstractmethod
    def evaluation_inputs(self) -> dict[str, Any]:
        """The test items and settings that the subclass's `evaluate` reads, as JSON values."""

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.base.model.eval()
        return self.measure(output, None)

    def evaluate_part(self, share: float) -> Evaluation:
        self.base.model.eval()
        return self.measure(None, share)

    @abstractmethod
    def measure(self, output: Path | None, share: float | None) -> Evaluation:
        """Evaluate the model on all test items or, with `share`, on a fixed part of them; write texts to `output`."""

    def likelihood_figures(
        self, validation_items: int, share: float | None = None
    ) -> tuple[dict[str, Figure], dict[str, Tensor]]:
        """Perplexity on general English and validation loss, if the task lists them, and the evaluation's artifacts.

        With `share`, of this part of general English, without the validation loss (the step log has it).
        """
        figures, artifacts = {}, {}
        if FAMILIAR_PERPLEXITY.name in self.metrics or DRIFT.name in self.metrics:
            losses = likelihood.losses(self.base, part_of(self.familiar, share))
            artifacts = _as_artifacts(losses)
            if FAMILIAR_PERPLEXITY.name in self.metrics:
                figures[FAMILIAR_PERPLEXITY.name] = perplexity(FAMILIAR_PERPLEXITY, losses, self.extractor)
        if VALIDATION_LOSS.name in self.metrics and share is None:
            value = self.validation_loss()
            figures[VALIDATION_LOSS.name] = VALIDATION_LOSS.figure(value, validation_items, self.extractor)
        return figures, artifacts

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        if DRIFT.name in self.metrics:
            before, after = _from_artifacts(base.artifacts), _from_artifacts(tuned.artifacts)
            tuned.figures[DRIFT.name] = drift(after, before, self.extractor)
        return super().finish(tuned, base, output)


def part_of(items: Sequence[Item], share: float | None) -> list[Item]:
    """All items, or a fixed part of them."""
    return list(items) if share is None else [items[i] for i in fixed_part(len(items), share)]


def _as_artifacts(losses: Losses) -> dict[str, Tensor]:
    return {"familiar_nats": torch.from_numpy(losses.nats), "familiar_tokens": torch.from_numpy(losses.tokens)}


def _from_artifacts(artifacts: Mapping[str, Tensor]) -> Losses:
    return Losses(artifacts["familiar_nats"].numpy(), artifacts["familiar_tokens"].numpy())
