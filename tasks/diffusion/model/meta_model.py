"""A diffusion task's shapes: the models from their configurations alone, noisy batches and sampling of real shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.bad_items import numbered
from tasks.base import EvaluationCall, MetaModel, When
from tasks.diffusion.model import bases
from tasks.diffusion.model.encoding import decoded_on_device, slices
from tasks.diffusion.model.noising import NoisyBatch, diffusion_loss, joined
from tasks.diffusion.model.sampling import pictures_at_once


@dataclass(frozen=True)
class EvaluationShape:
    """What a run samples and measures apart from its training steps, in numbers of pictures.

    An evaluation samples the pictures of each set together, for each of its `seeds`, and `real_pictures` go through the
    VAE. `validation_prompts` are sampled between two steps, `class_pictures` before the training.
    """

    sampled_sets: tuple[int, ...]
    num_inference_steps: int
    guidance_scale: float
    validation_items: int
    real_pictures: int = 0
    validation_prompts: int = 0
    class_pictures: int = 0
    seeds: int = 1


@dataclass(frozen=True)
class TrainingShape:
    """What beside the base decides what training needs."""

    encode_on_the_fly: bool = False
    train_text_encoder: bool = False
    prior_preservation: bool = False


class DiffusionMetaModel(MetaModel):
    """Latents and text states stay in CPU memory; a frozen part is on the device only if every batch needs it."""

    notes = (
        "latents and text states are computed before training and stay in CPU memory where possible; the models that "
        "measure pictures (--task.features, --task.scorer) are not counted",
    )

    scales_with_batch = True

    def __init__(
        self, base: str, resolution: int | None, training: TrainingShape, evaluation: EvaluationShape | None = None
    ):
        self.base = bases.load_meta(base, training.train_text_encoder)
        self.backbone = self.base.backbone
        self.frozen = {"vae": self.base.vae} if training.encode_on_the_fly else {}
        inside = set(self.base.text_encoders) if training.train_text_encoder else set()
        self.evaluation_models = {part: getattr(self.base, part) for part in self.base.frozen if part not in inside}
        self.resolution = self.base.check_resolution(resolution or self.base.resolution)
        self.training, self.shape = training, evaluation
        self.facts = {"base": base, "resolution": self.resolution}

    def batch(self, size: int, device: torch.device) -> NoisyBatch:
        """`size` items and, with prior preservation, as many class pictures."""
        if not self.training.prior_preservation:
            return self._batch(size, device)
        return joined(self._batch(size, device), self._batch(size, device), 1.0)

    def _batch(self, size: int, device: torch.device) -> NoisyBatch:
        latents = self._latents(size, device)
        timestep = torch.zeros(size, dtype=torch.long, device=device)
        return NoisyBatch(latents, latents.clone(), timestep, self.base.zero_conditions(size, device))

    def _latents(self, size: int, device: torch.device) -> Tensor:
        return torch.zeros(size, *self.base.latent_shape(self.resolution), device=device)

    def loss(self, batch: NoisyBatch) -> Tensor:
        return diffusion_loss(self.base, batch)

    def evaluation(self, device: torch.device) -> Sequence[EvaluationCall]:
        """The validation loss, a solver step and the decoder. Encoding pictures takes less than decoding them."""
        shape = self.shape
        if shape is None:
            return ()
        return [
            *self._sampled("set-up", (shape.class_pictures,), device),
            *self._validation(shape, device),
            *self._sampled("training", (shape.validation_prompts,), device),
            *self._sampled("evaluation", shape.sampled_sets, device, shape.real_pictures),
        ]

    def _validation(self, shape: EvaluationShape, device: torch.device) -> list[EvaluationCall]:
        items = min(shape.validation_items, pictures_at_once(64, self.resolution))
        if not items:
            return []
        count = -(-shape.validation_items // items)
        loss = lambda: self.loss(self._batch(items, device))  # noqa: E731
        return [EvaluationCall("validation loss", loss, count, ("training", "evaluation"), seeds=shape.seeds)]

    def _sampled(
        self, when: When, sets: Sequence[int], device: torch.device, real_pictures: int = 0
    ) -> list[EvaluationCall]:
        """Sampling each set of pictures, and decoding them and the latents of real pictures."""
        if self.shape is None or not any(sets):
            return []
        at_once = min(max(sets), pictures_at_once(100, self.resolution))
        latents = self._latents(at_once, device)
        part = slices(self.base.vae, self._latents(max(at_once, real_pictures), device))[0]
        batches = sum(-(-size // at_once) for size in sets)
        others, seeds = tuple(self.evaluation_models), self.shape.seeds
        return [
            EvaluationCall(
                f"sampling of {numbered(at_once, 'picture')}",
                lambda: self._solver_step(latents, device),
                batches * self.shape.num_inference_steps,
                (when,),
                others,
                seeds,
            ),
            EvaluationCall(
                f"decoding of {numbered(len(part), 'picture')} at a time",
                lambda: decoded_on_device(self.base.vae, part),
                -(-sum(sets) // len(part)),
                (when,),
                others,
                seeds,
            ),
        ]

    def _solver_step(self, latents: Tensor, device: torch.device) -> Any:
        """One step of a multistep solver of order 2 with classifier-free guidance (diffusers' pipeline)."""
        scale = 1.0 if self.shape is None else self.shape.guidance_scale
        guided = scale > 1
        history = [latents.clone(), latents.clone()]
        inputs = torch.cat([latents] * 2) if guided else latents
        timestep = torch.zeros(len(inputs), dtype=torch.long, device=device)
        noise = self.base.predict_noise(inputs, timestep, self.base.zero_conditions(len(inputs), device))
        if guided:
            unconditional, conditional = noise.chunk(2)
            noise = unconditional + scale * (conditional - unconditional)
        return history, noise
