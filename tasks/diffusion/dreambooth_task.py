"""A prepared DreamBooth task: the subject's pictures, and the base's own pictures of the subject's class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tasks.cache import cached
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.model.noising import Noising, NoisyBatch, joined
from tasks.diffusion.model.sampling import sample
from tasks.diffusion.settings import DiffusionSettings
from tasks.diffusion.text_to_image import TextToImage
from tasks.shuffling import shuffled_indices

CLASS_SEED = 2**40  # far from any run's seed: the class pictures' seed, and the offset of their noise's


@dataclass(frozen=True)
class Subject:
    """`class_images` pictures of the class are sampled from the base and trained on (prior preservation); 0: none."""

    instance_prompt: str
    class_prompt: str
    class_images: int
    prior_loss_weight: float


class SubjectDriven(TextToImage):
    """Each batch holds instance pictures and, with prior preservation, as many class pictures."""

    def __init__(self, task: DiffusionSettings, device: torch.device, subject: Subject):
        self.subject = subject
        super().__init__(task, device, subject.class_prompt)
        self.prior: Noising | None = None
        if subject.class_images:
            self.prior = self.noising(self.class_pictures(), training=True)

    def class_pictures(self) -> Pictures:
        """The base's pictures of the class prompt, cached by content."""
        prompts = [self.subject.class_prompt] * self.subject.class_images
        sampling = replace(self.sampling, seed=CLASS_SEED)
        key: dict[str, Any] = {"base": self.revision, "prompts": prompts, "sampling": asdict(sampling)}
        if self.base.precision != "fp32":
            key["precision"] = self.base.precision, self.base.backbone.compute

        def compute() -> tuple[dict[str, Tensor], None]:
            return {"pixels": sample(self.base, prompts, sampling, "class pictures")}, None

        return Pictures(cached("class-pictures", key, compute)[0]["pixels"], prompts)

    def _facts(self) -> dict[str, Any]:
        subject = self.subject
        return super()._facts() | {
            "test_items": len(self.task.prompts(self.splits)),
            "held_out_items": len(self.splits.test),
            "instance_prompt": subject.instance_prompt,
            "class_prompt": subject.class_prompt,
            "num_class_images": subject.class_images or None,
        }

    def batches(self, seed: int, start: int, size: int) -> Iterator[NoisyBatch]:
        step = start
        for batch in super().batches(seed, start, size):
            if self.prior is None:
                yield batch
            else:
                index = torch.tensor(shuffled_indices(seed + CLASS_SEED, step, size, len(self.prior)))
                class_batch = self.prior.batch(index, seed + CLASS_SEED, step * size)
                yield joined(batch, class_batch, self.subject.prior_loss_weight)
            step += 1
