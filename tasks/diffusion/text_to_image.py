"""A prepared text-to-image task: a Stable Diffusion, its encoded items, the loss and the evaluation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.bad_items import print_left_out
from tasks.base import Evaluation, PreparedTask
from tasks.diffusion.data.augmentation import Augmentation
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.evaluation.evaluation import ImageEvaluation
from tasks.diffusion.evaluation.grid import save_pictures
from tasks.diffusion.evaluation.inputs import MetricInputs, RealPictures, SampledPrompts
from tasks.diffusion.evaluation.models import EvaluationModels
from tasks.diffusion.model import bases
from tasks.diffusion.model.latents import OnTheFlyLatents, cached_conditions, cached_latents
from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
from tasks.diffusion.model.noising import MAX_SEED, Noising, NoisyBatch, diffusion_loss
from tasks.diffusion.model.sampling import Sampling, pictures_at_once, sample
from tasks.diffusion.settings import DiffusionSettings, value_of
from tasks.distributed import is_main, map_across_ranks
from tasks.shuffling import shuffled_indices


class TextToImage(PreparedTask):
    """Computes latents and text states once; training then holds the UNet alone, if the settings allow it."""

    def __init__(self, task: DiffusionSettings, device: torch.device, class_prompt: str | None = None):
        self.task = task
        # the data first: loading a base takes longer than finding a broken picture
        self.splits = task.splits(task.resolution or bases.resolution_of(task.base))
        options = task.allow_pickle, task.train_text_encoder, task.base_precision
        loaded = LoadedStableDiffusion(task.base, device, task.resolution, *options)
        self.base, self.backbone = loaded.base, loaded.backbone
        self.revision, self.resolution = loaded.revision, loaded.resolution
        self.sampling = self._sampling()
        self.augmentation = Augmentation(task.crops if task.crop == "random" else 1, value_of(task.random_flip))
        self.training = self.noising(self.splits.train, training=True)
        self.has_validation = len(self.splits.validation) > 0
        self.validation = self.noising(self.splits.validation, training=False) if self.has_validation else None
        self.evaluation = self._evaluation(class_prompt)
        self.train_items = len(self.splits.train)
        self.facts = self.splits.facts | self._facts()
        print_left_out(self.facts)

    def _sampling(self) -> Sampling:
        return Sampling(
            value_of(self.task.num_inference_steps),
            value_of(self.task.guidance_scale),
            batch=pictures_at_once(100, self.resolution),
            resolution=None if self.resolution == self.base.resolution else self.resolution,
        )

    def _evaluation(self, class_prompt: str | None) -> ImageEvaluation:
        task = self.task
        models = EvaluationModels.load(task.features, task.scorer, self.base.device)
        real = RealPictures(self.splits, self.base, models, class_prompt)
        kinds = task.prompts_of_kinds(self.splits) if task.prompt_kind_items else {}
        sampled = SampledPrompts(task.prompts(self.splits), task.base_prompts(), self.sampling, kinds)
        inputs = MetricInputs(self.base, models, real, sampled, self.validation_loss)
        return ImageEvaluation(list(task.all_metrics().values()), inputs, task.evaluation_seeds)

    def _facts(self) -> dict[str, Any]:
        task, sampling = self.task, self.sampling
        return {
            "base": task.base,
            "base_revision": self.revision,
            "train_items": len(self.splits.train),
            "validation_items": len(self.splits.validation),
            "test_items": len(self.splits.test),
            "floor": self.splits.facts.get("floor", "other held-out pictures") if len(self.splits.floor) else "none",
            "resolution": self.resolution,
            "sampling": {
                "solver": "DPM-Solver++",
                "num_inference_steps": sampling.num_inference_steps,
                "guidance_scale": sampling.guidance_scale,
            },
            "prediction_type": self.base.prediction_type,
            "snr_gamma": task.snr_gamma,
            "augmentation": {
                "crop": task.crop,
                "random_flip": task.random_flip,
                "encode": task.encode,
                "variants": self.augmentation.variants(self.splits.train) if task.encode == "cached" else None,
            },
            "text_encoder": "trained" if task.train_text_encoder else "frozen",
            **({"prompt_kinds": self._kinds()} if self.task.prompt_kind_items else {}),
            **self._cut_captions(),
        }

    def _kinds(self) -> dict[str, dict[str, Any]]:
        """The number of prompts of each kind, and the first."""
        kinds = self.evaluation.inputs.sampled.kinds
        return {kind: {"n": len(prompts), "first": prompts[0].text} for kind, prompts in kinds.items()}

    def _cut_captions(self) -> dict[str, Any]:
        """How many captions of each split are longer than the text encoder reads; also printed."""
        prompts = [prompt.text for prompt in self.task.prompts(self.splits)]
        captions = {"train": self.splits.train.captions, "validation": self.splits.validation.captions, "test": prompts}
        cut = {split: len(self.base.cut_captions(texts)) for split, texts in captions.items()}
        if not any(cut.values()):
            return {}
        limit = self.base.tokenizer.model_max_length
        if is_main():
            numbers = ", ".join(f"{count} of {len(captions[split])} in {split}" for split, count in cut.items())
            print(f"captions of more than {limit} tokens, cut there: {numbers}", file=sys.stderr)
        return {"captions_cut": {"limit_tokens": limit, **cut}}

    def noising(self, pictures: Pictures, training: bool) -> Noising:
        """Encoded pictures and captions to draw batches from; validation has neither augmentation nor dropout."""
        task, base = self.task, self.base
        if training and task.encode == "on-the-fly":
            latents = OnTheFlyLatents(base, pictures, self.augmentation)
        else:
            latents = cached_latents(base, pictures, self.augmentation if training else Augmentation())
        captions = [*pictures.captions, ""]
        encoded = base.tokenize(captions) if task.train_text_encoder else cached_conditions(base, captions)
        conditions = {name: tensor[:-1] for name, tensor in encoded.items()}
        empty = base.empty_conditions({name: tensor[-1] for name, tensor in encoded.items()})
        plain = Noising(base.scheduler, latents, conditions, empty, base.view_conditions)
        if not training:
            return plain
        return replace(
            plain,
            caption_dropout=value_of(task.caption_dropout),
            noise_offset=task.noise_offset,
            snr_gamma=None if task.snr_gamma == "none" else task.snr_gamma,
        )

    def batches(self, seed: int, start: int, size: int) -> Iterator[NoisyBatch]:
        self.release()
        step = start
        while True:
            index = torch.tensor(shuffled_indices(seed, step, size, len(self.training)))
            yield self.training.batch(index, seed, step * size)
            step += 1

    def release(self) -> None:
        """Free the frozen parts that training does not need; the evaluation reads them again."""
        if self.task.encode == "cached":
            self.base.release("vae")
        if not self.task.train_text_encoder:
            self.base.release(*self.base.text_encoders)

    def loss(self, batch: NoisyBatch) -> Tensor:
        return diffusion_loss(self.base, batch)

    @torch.no_grad()
    def validation_loss(self, evaluation_seed: int = 0) -> float:
        validation = self.validation
        assert validation is not None, "there are no validation pictures"

        def total(index: Tensor) -> float:
            batch = validation.batch(index, MAX_SEED - evaluation_seed, int(index[0]))
            return diffusion_loss(self.base, batch).item() * len(index)

        count = len(validation)
        return sum(map_across_ranks(torch.arange(count).split(pictures_at_once(64, self.resolution)), total)) / count

    def illustrate(self, output: Path, step: int) -> list[Path]:
        prompts = list(self.task.validation_prompts)
        if not prompts:
            return []
        pixels = sample(self.base, prompts, self.sampling, "validation prompts")
        self.release()
        return save_pictures(pixels, output / f"step-{step:06d}") if is_main() else []

    @property
    def evaluation_key(self) -> Any:
        trained = self.task.train_text_encoder  # text states are then computed in other batches
        return {"base": self.revision, "train_text_encoder": trained, "evaluation": self.evaluation.key()}

    def evaluate(self, output: Path | None = None) -> Evaluation:
        self.backbone.model.eval()
        return self.evaluation.measure(output)

    def evaluate_part(self, share: float) -> Evaluation:
        self.backbone.model.eval()
        try:
            return self.evaluation.part(share).measure(None)
        finally:
            self.release()

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        return self.evaluation.finish(super().finish(tuned, base, output), base, output)
