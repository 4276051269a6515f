"""Text-to-image fine-tuning on captioned creatures: the tutorial's Pokemon task, whose dataset was taken down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks.bad_items import OnBadItem
from tasks.base import Metric, Task, declare
from tasks.diffusion.settings import CHOSEN, DiffusionSettings
from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.data.splits import Splits
    from tasks.diffusion.model.meta_model import DiffusionMetaModel
    from tasks.diffusion.text_to_image import TextToImage

ATTRIBUTES = ("body", "colour", "eyes", "head", "limb", "belly", "background")
IMAGE_METRICS = declare(
    Metric("kid", "lower", "x1000", "kernel distance to real pictures (KID)"),
    Metric("fid", "lower", "", "Fréchet distance to real pictures (FID)"),
    Metric("cmmd", "lower", "x1000", "kernel distance of CLIP embeddings (CMMD)"),
    Metric("clip_score", "higher", "100 x cosine", "agreement of picture and prompt (CLIP score)"),
    Metric("alignment", "higher", "share", "the prompt's eyes, head and limb found in the picture"),
    Metric("drift", "lower", "1 - cosine", "change of the pictures of prompts that the base knew"),
    Metric("base_alignment", "higher", "share", "attributes of the base's own prompts found in the picture"),
    Metric("validation_loss", "lower", "mean squared error", "loss on kept items with fixed noise"),
    *(Metric(f"alignment_{part}", "higher", "share", f"the prompt's {part} found") for part in ATTRIBUTES),
)
LEAST_ITEMS = {"train_items": 1, "validation_items": 1, "test_items": 0, "drift_items": 0}


@dataclass(frozen=True)
class Pokemon(DiffusionSettings, Task, name="sd-pokemon"):
    """Text-to-image: teach a Stable Diffusion captioned pictures of creatures that it has never seen."""

    metrics = IMAGE_METRICS
    primary_metric = "kid"
    input_size_field = "resolution"
    chosen: ClassVar = CHOSEN | {"train_items": 1500, "validation_items": 128, "test_items": 500, "drift_items": 100}

    data: str = "creatures"
    """The pictures: "creatures" (drawn, exact attributes), "openmoji" (real art), "pokemon" or "naruto" (from the hub),
    an image folder, or a hub name such as "org/name" or "org/name@revision"."""
    image_column: str | None = None
    """Where the data's pictures are. Default: the only column that holds pictures."""
    caption_column: str | None = None
    """Where their captions are. Default: the only column that holds text."""
    on_bad_item: OnBadItem = "fail"
    """A picture that cannot be read, or has no caption: fail and name it, or skip and count it in the record."""
    train_items: int | None = None
    """Creatures drawn for training (other data are taken whole). Default: 1500; of a published base on a CPU 8."""
    validation_items: int | None = None
    """Kept pictures on which the validation loss is measured, at most. Default: 128; of a published base on a CPU 1."""
    test_items: int | None = None
    """Prompts that are sampled and real pictures that they are compared with, at most. KID and FID need 10; 0 samples
    none. Default: 500; of a published base on a CPU, which takes minutes a picture, 0."""
    drift_items: int | None = None
    """Prompts of the base's own world on which drift is measured, at most; 0 leaves drift out. Default: 100; of a
    published base on a CPU 0."""

    def prepare(self, device: torch.device) -> TextToImage:
        from tasks.diffusion.text_to_image import TextToImage

        task = self.filled()
        task.check()
        for name, least in LEAST_ITEMS.items():
            if getattr(task, name) < least:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least {least}, not {getattr(task, name)}")
        return TextToImage(task, device)

    def meta_model(self) -> DiffusionMetaModel:
        from tasks.diffusion.model.meta_model import DiffusionMetaModel

        return DiffusionMetaModel(self.filled())

    def splits(self, resolution: int) -> Splits:
        """The pictures, at `resolution` pixels a side."""
        from tasks.diffusion.data import captioned, splits

        task = self.filled()
        kept = (task.validation_items or 0, task.test_items or 0)
        if task.data == "creatures":
            return splits.creatures(task.train_items or 0, *kept, resolution)
        if task.data == "openmoji":
            return splits.openmoji_animals(*kept, resolution)
        return captioned.load(task, resolution)
