"""A prepared text-to-image task: a Stable Diffusion, its encoded items, the loss and the evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.base import Evaluation, Figure, PreparedTask
from tasks.cache import cached, file_digest, tensor_digest
from tasks.diffusion import bases, noising
from tasks.diffusion.backbone import StableDiffusionBackbone
from tasks.diffusion.data import Pictures
from tasks.diffusion.encoding import encode_captions, encode_pictures
from tasks.diffusion.evaluation import ImageEvaluation
from tasks.diffusion.noising import Noising, NoisyBatch, diffusion_loss, shuffled_indices
from tasks.diffusion.sampling import Sampling
from tasks.processes import shared_out

if TYPE_CHECKING:
    from tasks.diffusion.pokemon import Pokemon

VALIDATION_BATCH = 64


class TextToImage(PreparedTask):
    """Latents and text states are computed once; training touches the UNet alone."""

    def __init__(self, task: Pokemon, device: torch.device):
        self.task = task
        self.base = bases.load(task.base, device)
        self.base.unet.to(memory_format=torch.channels_last)
        self.backbone = StableDiffusionBackbone(self.base.unet, tuple(self.base.card["targets"]))
        folder = bases.folder_of(task.base)
        self.revision = file_digest(*sorted(folder.rglob("*.safetensors")))
        self.splits = task.splits(task.resolution or self.base.resolution)
        self.training = self._encoded(self.splits.train, task.caption_dropout)
        self.validation = self._encoded(self.splits.validation, 0.0)
        card = self.base.card["sampling"]
        sampling = Sampling(task.sampling_steps or card["steps"], task.guidance or card["guidance"])
        self.evaluation = ImageEvaluation(task, self.base, self.splits, sampling)
        self.facts = self.splits.facts | {
            "base": task.base,
            "base_revision": self.revision,
            "train_items": len(self.splits.train),
            "test_items": len(self.splits.test),
            "resolution": task.resolution or self.base.resolution,
            "sampling": {"solver": "DPM-Solver++", "steps": sampling.steps, "guidance": sampling.guidance},
        }

    def _encoded(self, pictures: Pictures, caption_dropout: float) -> Noising:
        base = self.base
        key = {
            "base": self.revision,
            "pixels": tensor_digest(pictures.pixels),
            "captions": pictures.captions,
        }

        def compute() -> tuple[dict[str, Tensor], None]:
            states = encode_captions(base.text_encoder, base.tokenizer, [*pictures.captions, ""])
            return {"moments": encode_pictures(base.vae, pictures.pixels), "states": states}, None

        found, _ = cached("latents", key, compute)
        states = found["states"]
        return Noising(base.scheduler, found["moments"], states[:-1], states[-1], caption_dropout)

    def batches(self, seed: int, start: int, size: int) -> Iterator[NoisyBatch]:
        step = start
        while True:
            index = shuffled_indices(seed, step, size, len(self.training.moments))
            yield self.training.batch(index, seed, step * size)
            step += 1

    def loss(self, batch: NoisyBatch) -> Tensor:
        return diffusion_loss(self.base.unet, batch)

    @torch.no_grad()
    def validation_loss(self) -> float:
        def total(index: Tensor) -> float:
            batch = self.validation.batch(index, noising.MAXIMAL_SEED, int(index[0]))
            return diffusion_loss(self.base.unet, batch).item() * len(index)

        count = len(self.validation.moments)
        return sum(shared_out(torch.arange(count).split(VALIDATION_BATCH), total)) / count

    @property
    def evaluation_key(self) -> Any:
        return {
            "base": self.revision,
            "test": tensor_digest(self.splits.test.pixels),
            "reference": tensor_digest(self.splits.reference.pixels),
            "captions": self.splits.test.captions,
            "settings": self.evaluation.settings,
        }

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.base.unet.eval()
        found = self.evaluation.measure(output)
        loss, extractor = self.validation_loss(), "the UNet's own loss, fixed noise"
        count = len(self.validation.moments)
        found.figures["validation_loss"] = Figure(loss, "mean squared error", count, extractor)
        return found

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        return self.evaluation.finish(super().finish(tuned, base, output), base, output)
