"""The prepared planted task of a Stable Diffusion: the teacher, the error against it, the share that is recovered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.base import Evaluation, EvaluationCall, Metric, PreparedTask, When
from tasks.cache import tensor_digest
from tasks.diffusion.data import splits
from tasks.diffusion.data.augmentation import Augmentation
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.model.latents import cached_conditions, cached_latents
from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
from tasks.diffusion.model.meta_model import DiffusionMetaModel, EvaluationShape, TrainingShape
from tasks.diffusion.model.noising import MAX_SEED, Noising, NoisyBatch
from tasks.diffusion.model.sampling import pictures_at_once
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.distributed import map_across_ranks
from tasks.fixed_part import fixed_part
from tasks.planted.recovered import DISTANCE, RECOVERED, recovered
from tasks.planted.update import PlantedUpdate, Teacher
from tasks.shuffling import shuffled_indices

CALIBRATION = 128  # training pictures
WHEN: tuple[When, ...] = ("set-up", "evaluation")
AT_ONCE = 64  # pictures that are measured together, at most


class LearnedDenoiser(PreparedTask):
    """The student sees noisy creatures with their captions and learns the teacher's predictions."""

    def __init__(
        self,
        loaded: LoadedStableDiffusion,
        update: PlantedUpdate,
        train_items: int,
        test_items: int,
        metrics: Mapping[str, Metric],
    ):
        self.base, self.backbone, self.revision = loaded.base, loaded.backbone, loaded.revision
        self.update, self.metrics = update, metrics
        self.batch = pictures_at_once(AT_ONCE, loaded.resolution)
        drawn = splits.creatures(train_items, test_items, test_items, loaded.resolution)
        self.training, self.validation, self.test = map(self.noising, (drawn.train, drawn.validation, drawn.test))
        self.base.release("vae", *self.base.text_encoders)
        self.train_items = len(drawn.train)
        self.teacher = self.update.teacher(self.backbone, self._probe)
        self._effects: dict[str, np.ndarray] = {}
        self.captions = drawn.test.captions
        self.inputs = [[tensor_digest(part.pixels), part.captions] for part in (drawn.validation, drawn.test)]
        self.facts = {
            "base": self.base.name,
            "base_revision": self.revision,
            "data": "creatures",
            "train_items": self.train_items,
            "test_items": len(drawn.test),
            "resolution": loaded.resolution,
            "prediction_type": self.base.prediction_type,
            **self.update.facts(self.backbone),
            "effect": float(self.effects.mean()),
        }

    def _probe(self) -> None:
        """Run the UNet on training pictures, and back from random gradients of its predictions."""
        generator = torch.Generator().manual_seed(0)
        count = min(CALIBRATION, len(self.training))
        for index in torch.arange(count).split(self.batch):
            batch = self.training.batch(index, MAX_SEED, int(index[0]))
            predicted = self.base.predict_noise(batch.noisy, batch.timestep, batch.conditions)
            predicted.backward(torch.randn(predicted.shape, generator=generator).to(predicted))

    def noising(self, pictures: Pictures) -> Noising:
        """Encoded pictures and captions to draw batches from; no caption is dropped."""
        base = self.base
        encoded = cached_conditions(base, [*pictures.captions, ""])
        conditions = {name: tensor[:-1] for name, tensor in encoded.items()}
        empty = base.empty_conditions({name: tensor[-1] for name, tensor in encoded.items()})
        latents = cached_latents(base, pictures, Augmentation())
        return Noising(base.scheduler, latents, conditions, empty, base.view_conditions)

    def batches(self, seed: int, start: int, size: int) -> Iterator[NoisyBatch]:
        step = start
        while True:
            index = torch.tensor(shuffled_indices(seed, step, size, len(self.training)))
            yield self.training.batch(index, seed, step * size)
            step += 1

    def loss(self, batch: NoisyBatch) -> Tensor:
        return errors(self.base, self.teacher, batch).mean()

    @property
    def effects(self) -> np.ndarray:
        """Error of the untuned base against the teacher at each test picture (n,), in the run's precision."""
        compute = self.backbone.compute
        if compute not in self._effects:
            self._effects[compute] = self.distances(self.test, student=self.teacher.untuned)
        return self._effects[compute]

    @torch.no_grad()
    def distances(
        self, noising: Noising, pictures: Sequence[int] | None = None, student: nn.Module | None = None
    ) -> np.ndarray:
        """Mean squared error against the teacher at each of the pictures (n,); default: all.

        A picture has the same noise and timestep every time.
        """

        def measure(index: Tensor) -> np.ndarray:
            batch = noising.batch_at(index, MAX_SEED, index.tolist())
            return errors(self.base, self.teacher, batch, student).double().cpu().numpy()

        indices = torch.tensor(range(len(noising)) if pictures is None else pictures)
        return np.concatenate(map_across_ranks(indices.split(self.batch), measure))

    def validation_loss(self) -> float:
        return float(self.distances(self.validation).mean())

    @property
    def evaluation_key(self) -> Any:
        return {
            "base": self.revision,
            "teacher": asdict(self.update),
            "inputs": self.inputs,
            "metrics": [metric.implementation() for metric in self.metrics.values()],
        }

    def evaluate(self, output: Path | None = None) -> Evaluation:
        evaluation, loss = self._evaluate(range(len(self.test))), self.metrics["validation_loss"]
        evaluation.figures[loss.name] = loss.figure(self.validation_loss(), len(self.validation), self.extractor)
        return evaluation

    def evaluate_part(self, share: float) -> Evaluation:
        return self._evaluate(fixed_part(len(self.test), share))

    @property
    def extractor(self) -> str:
        return f"{self.base.name}'s own prediction, fixed noise, teacher of rank {self.update.rank}"

    def _evaluate(self, pictures: Sequence[int]) -> Evaluation:
        """On these pictures of the test, without the validation loss."""
        self.backbone.model.eval()
        distances, effects = self.distances(self.test, pictures), self.effects[pictures]
        figures = {
            RECOVERED.name: recovered(distances, effects, self.extractor),
            DISTANCE: self.metrics[DISTANCE].figure(distances.mean(), len(pictures), self.extractor),
        }
        items = [
            {"item": i, "caption": self.captions[i], "distance": distances[k], "effect": effects[k]}
            for k, i in enumerate(pictures)
        ]
        return Evaluation(figures, items)


def errors(base: StableDiffusion, teacher: Teacher, batch: NoisyBatch, student: nn.Module | None = None) -> Tensor:
    """Mean squared error of the student's (default: the base's) against the teacher's prediction of each item, (n,)."""
    with torch.no_grad():
        wanted = base.predict_noise(batch.noisy, batch.timestep, batch.conditions, teacher.model)
    predicted = base.predict_noise(batch.noisy, batch.timestep, batch.conditions, student)
    return (predicted - wanted).square().flatten(1).mean(dim=1)


class TeacherMetaModel(DiffusionMetaModel):
    """The student and its teacher, which is on the device too; the base's other parts have been released."""

    def __init__(self, base: str, update: PlantedUpdate, test_items: int):
        shape = EvaluationShape((), 0, 1.0, test_items)
        super().__init__(base, None, TrainingShape(), shape)
        update.prepare(self.backbone)
        self.teacher = update.teacher(self.backbone, None)
        self.frozen, self.evaluation_models = {"teacher": self.teacher}, {}

    def loss(self, batch: NoisyBatch) -> Tensor:
        return errors(self.base, self.teacher, batch).mean()

    def evaluation(self, device: torch.device) -> list[EvaluationCall]:
        """Distances at the validation and the test pictures, of the untuned base too."""
        calls = list(super().evaluation(device))
        return [*calls, *(replace(call, name="distances at test pictures", when=WHEN) for call in calls)]
