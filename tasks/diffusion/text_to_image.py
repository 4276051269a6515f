"""A prepared text-to-image task: a Stable Diffusion, its encoded items, the loss and the evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.base import Evaluation, Figure, PreparedTask
from tasks.cache import file_digest, tensor_digest
from tasks.diffusion.data.augmentation import Augmentation
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.evaluation.evaluation import ImageEvaluation, PictureEvaluation
from tasks.diffusion.evaluation.grid import save_pictures
from tasks.diffusion.model import noising
from tasks.diffusion.model.encoding import FreshLatents, kept_latents, kept_text, tokens_of
from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
from tasks.diffusion.model.noising import Noising, NoisyBatch, diffusion_loss
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.distributed import is_main, map_across_ranks
from tasks.shuffling import shuffled_indices

if TYPE_CHECKING:
    from tasks.diffusion.dreambooth import DreamBooth
    from tasks.diffusion.pokemon import Pokemon

PIXELS = 2**21  # that the UNet takes at once: eight pictures of 512 pixels a side


class TextToImage(PreparedTask):
    """Latents and text states are computed once; training then holds the UNet alone, where the settings allow it."""

    def __init__(self, task: Pokemon | DreamBooth, device: torch.device):
        self.task = task
        opened = LoadedStableDiffusion(task, device)
        self.base, self.backbone, self.folder = opened.base, opened.backbone, opened.folder
        self.revision, self.resolution = opened.revision, opened.resolution
        self.splits = task.splits(self.resolution)
        self.sampling = self._sampling()
        self.augmentation = Augmentation(task.crops if task.crop == "random" else 1, bool(task.random_flip))
        self.training = self.noising(self.splits.train, training=True)
        self.validation = self.noising(self.splits.validation, training=False)
        self.evaluation = self._evaluation()
        self.train_items = len(self.splits.train)
        self.facts = self.splits.facts | self._facts()

    def _sampling(self) -> Sampling:
        task, card, own = self.task, self.base.card["sampling"], self.resolution == self.base.resolution
        return Sampling(
            task.num_inference_steps or card["num_inference_steps"],
            card["guidance_scale"] if task.guidance_scale is None else task.guidance_scale,
            batch=self._together(100),
            resolution=None if own else self.resolution,
        )

    def _evaluation(self) -> PictureEvaluation:
        return ImageEvaluation(self.task, self.base, self.splits, self.sampling)

    def _facts(self) -> dict[str, Any]:
        task, sampling = self.task, self.sampling
        return {
            "base": task.base,
            "base_revision": self.revision,
            "train_items": len(self.splits.train),
            "test_items": len(self.splits.test),
            "resolution": self.resolution,
            "sampling": {
                "solver": "DPM-Solver++",
                "steps": sampling.num_inference_steps,
                "guidance": sampling.guidance_scale,
            },
            "prediction_type": self.base.scheduler.config.prediction_type,
            "augmentation": {
                "crop": task.crop,
                "random_flip": task.random_flip,
                "encode": task.encode,
                "variants": self.augmentation.variants(self.splits.train) if task.encode == "cached" else None,
            },
            "text_encoder": "trained" if task.train_text_encoder else "frozen",
        }

    def noising(self, pictures: Pictures, training: bool) -> Noising:
        """Pictures and captions in the form that batches are drawn from; the plain pictures and loss for validation."""
        task, base = self.task, self.base
        if training and task.encode == "on-the-fly":
            latents = FreshLatents(base, pictures, self.augmentation)
        else:
            latents = kept_latents(
                base, self._digest("vae"), pictures, self.augmentation if training else Augmentation()
            )
        captions = [*pictures.captions, ""]
        if task.train_text_encoder:
            text = tokens_of(base.tokenizer, captions)
        else:
            text = kept_text(base, self._digest("text_encoder", "tokenizer"), captions)
        plain = Noising(base.scheduler, latents, text[:-1], text[-1])
        if not training:
            return plain
        return replace(
            plain,
            caption_dropout=task.caption_dropout or 0.0,
            noise_offset=task.noise_offset,
            snr_gamma=task.snr_gamma,
        )

    def _digest(self, *parts: str) -> str:
        files = [file for part in parts for file in sorted((self.folder / part).rglob("*")) if file.is_file()]
        return file_digest(*files)

    def batches(self, seed: int, start: int, size: int) -> Iterator[NoisyBatch]:
        self.release()
        step = start
        while True:
            index = torch.tensor(shuffled_indices(seed, step, size, len(self.training)))
            yield self.training.batch(index, seed, step * size)
            step += 1

    def release(self) -> None:
        """Let go of the frozen parts that training does not need; evaluation reads them again."""
        if self.task.encode == "cached":
            self.base.release("vae")
        if not self.task.train_text_encoder:
            self.base.release("text_encoder")

    def loss(self, batch: NoisyBatch) -> Tensor:
        return diffusion_loss(self.backbone.model, batch)

    @torch.no_grad()
    def validation_loss(self) -> float:
        def total(index: Tensor) -> float:
            batch = self.validation.batch(index, noising.MAXIMAL_SEED, int(index[0]))
            return diffusion_loss(self.backbone.model, batch).item() * len(index)

        count = len(self.validation)
        return sum(map_across_ranks(torch.arange(count).split(self._together(64)), total)) / count

    def _together(self, most: int) -> int:
        """How many pictures of this resolution the UNet takes at once, at most `most`."""
        return max(1, min(most, PIXELS // self.resolution**2))

    def illustrate(self, output: Path, step: int) -> list[Path]:
        prompts = list(self.task.validation_prompts)
        if not prompts:
            return []
        pixels = sample(self.base, prompts, self.sampling, "validation prompts")
        return save_pictures(pixels, output / f"step-{step:06d}") if is_main() else []

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
        self.backbone.model.eval()
        found = self.evaluation.measure(output)
        loss, extractor = self.validation_loss(), "the UNet's own loss, fixed noise"
        count = len(self.validation)
        found.figures["validation_loss"] = Figure(loss, "mean squared error", count, extractor)
        return found

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        return self.evaluation.finish(super().finish(tuned, base, output), base, output)
