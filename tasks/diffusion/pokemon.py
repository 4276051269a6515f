"""Text-to-image fine-tuning on captioned creatures: the tutorial's Pokemon task, whose dataset was taken down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.bad_items import OnBadItem
from tasks.base import Metric, Task, TaskError
from tasks.diffusion.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.data import Splits
    from tasks.diffusion.skeleton import DiffusionSkeleton
    from tasks.diffusion.text_to_image import TextToImage

IMAGE_METRICS = {
    "kid": Metric("lower", "x1000", "kernel distance to real pictures (KID)"),
    "fid": Metric("lower", "", "Fréchet distance to real pictures (FID)"),
    "cmmd": Metric("lower", "x1000", "kernel distance of CLIP embeddings (CMMD)"),
    "clip_score": Metric("higher", "100 x cosine", "agreement of picture and prompt (CLIP score)"),
    "alignment": Metric("higher", "share", "the prompt's eyes, head and limb found in the picture"),
    "drift": Metric("lower", "1 - cosine", "change of the pictures of prompts that the base knew"),
    "base_alignment": Metric("higher", "share", "attributes of the base's own prompts found in the picture"),
    "validation_loss": Metric("lower", "mean squared error", "loss on kept items with fixed noise"),
}
ATTRIBUTES = ("body", "colour", "eyes", "head", "limb", "belly", "background")
for _attribute in ATTRIBUTES:
    IMAGE_METRICS[f"alignment_{_attribute}"] = Metric("higher", "share", f"the prompt's {_attribute} found")


@dataclass(frozen=True)
class Pokemon(Recipe, Task, name="sd-pokemon"):
    """Text-to-image: teach a Stable Diffusion captioned pictures of creatures that it has never seen."""

    metrics = IMAGE_METRICS
    headline = "kid"
    extent_field = "resolution"

    data: str = "creatures"
    """The pictures: "creatures" (drawn, exact attributes), "openmoji" (real art), or an image folder."""
    caption_column: str | None = None
    """The image folder's caption column. Default: the only one."""
    on_bad_item: OnBadItem = "fail"
    """A picture that cannot be read, or has no caption: fail and name it, or skip and count it in the record."""
    train_items: int = 1500
    """Creatures drawn for training (other data are taken whole)."""
    test_items: int = 500
    """Prompts that are sampled and real pictures that they are compared with, at most."""
    base_items: int = 100
    """Prompts of the base's own world on which drift is measured."""

    def prepare(self, device: torch.device) -> TextToImage:
        from tasks.diffusion.text_to_image import TextToImage

        task = self.filled()
        task.check()
        for name in ("train_items", "test_items", "base_items"):
            if getattr(task, name) < 10:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least 10, not {getattr(task, name)}")
        return TextToImage(task, device)

    def skeleton(self) -> DiffusionSkeleton:
        from tasks.diffusion.skeleton import DiffusionSkeleton

        return DiffusionSkeleton(self.filled())

    def splits(self, resolution: int) -> Splits:
        """The pictures, at `resolution` pixels a side."""
        from tasks.diffusion import data

        if self.data == "creatures":
            return data.creatures(self.train_items, self.test_items, resolution)
        if self.data == "openmoji":
            return data.openmoji_animals(self.test_items, resolution)
        return data.image_folder(
            Path(self.data), self.test_items, resolution, self.caption_column, self.on_bad_item, self.crop == "random"
        )
