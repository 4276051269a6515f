"""What the prepared tasks of a language model share: batches of token rows, the next-token loss, drift."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from tasks.base import Evaluation, PreparedTask
from tasks.language.model import bases, likelihood
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.likelihood import Losses, Row, TokenBatch
from tasks.shuffling import shuffled_indices

if TYPE_CHECKING:
    import torch


class TokenTask(PreparedTask):
    """A task whose training and validation items are `Row`s of tokens; a subclass makes them and measures the rest.

    Its evaluations have the losses on familiar text as artifacts, from which `finish` takes the drift.
    """

    training: list[Row]
    validation: list[Row]

    def __init__(self, base: str, device: torch.device, allow_pickle: bool):
        self.base = bases.load(base, device, allow_pickle)
        self.backbone = CausalLanguageModel(self.base.model, tuple(self.base.card["targets"]))

    @property
    def label_smoothing(self) -> float:
        """Of the training loss."""
        return 0.0

    def batches(self, seed: int, start: int, size: int) -> Iterator[TokenBatch]:
        step = start
        while True:
            index = shuffled_indices(seed, step, size, len(self.training))
            yield likelihood.padded([self.training[i] for i in index], self.base.device)
            step += 1

    def loss(self, batch: TokenBatch) -> Tensor:
        return likelihood.cross_entropy(self.base.model, batch, self.label_smoothing)

    def weight(self, batch: TokenBatch) -> float:
        return likelihood.predicted_tokens(batch)

    def tokens(self, batch: TokenBatch) -> int:
        return likelihood.read_tokens(batch)

    def validation_loss(self) -> float:
        found = likelihood.losses(self.base, self.validation)
        return float(found.nats.sum() / found.tokens.sum())

    @property
    def extractor(self) -> str:
        """What likelihoods are measured with."""
        return f"{self.base.name}'s own tokens"

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        before, after = Losses.from_tensors(base.artifacts), Losses.from_tensors(tuned.artifacts)
        tuned.figures["drift"] = likelihood.drift(after, before, self.extractor)
        return super().finish(tuned, base, output)
