"""Text-to-image fine-tuning on captioned creatures: the tutorial's Pokemon task, whose dataset was taken down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bad_items import OnBadItem
from tasks.base import Metric, Task, TaskError

if TYPE_CHECKING:
    import torch

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
class Pokemon(Task, name="sd-pokemon"):
    """Text-to-image: teach a Stable Diffusion captioned pictures of creatures that it has never seen."""

    metrics = IMAGE_METRICS
    headline = "kid"
    extent_field = "resolution"

    base: str = "mini"
    """The Stable Diffusion: the bundled "mini", or a folder in diffusers' layout."""
    data: str = "creatures"
    """The pictures: "creatures" (drawn, exact attributes), "openmoji" (real art), or an image folder."""
    caption_column: str | None = None
    """The image folder's caption column. Default: the only one."""
    on_bad_item: OnBadItem = "fail"
    """A picture that cannot be read, or has no caption: fail and name it, or skip and count it in the record."""
    resolution: int | None = None
    """Pixels a side. Default: the base's own."""
    train_items: int = 1500
    """Creatures drawn for training (other data are taken whole)."""
    test_items: int = 500
    """Prompts that are sampled and real pictures that they are compared with, at most."""
    base_items: int = 100
    """Prompts of the base's own world on which drift is measured."""
    caption_dropout: float = 0.1
    """Share of training captions replaced by the empty one, for classifier-free guidance."""
    sampling_steps: int | None = None
    """DPM-Solver++ steps in evaluation. Default: the base's card."""
    guidance: float | None = None
    """Guidance scale in evaluation. Default: the base's card."""
    features: str = "efficientnet"
    """Extractor of KID and FID: "efficientnet", "inception" (torch-fidelity), or a CLIP's name for CMMD."""
    scorer: str = "bundled"
    """The CLIP of the CLIP score, never the one that conditions the UNet: "bundled", a folder or a hub name."""

    def recommended(self, adapter: str) -> dict[str, Any]:
        from tasks.diffusion.bases import card_of

        card = card_of(self.base)
        return card["train"] | card.get("methods", {}).get(adapter, {})

    def prepare(self, device: torch.device) -> TextToImage:
        from tasks.diffusion.text_to_image import TextToImage

        if not 0 <= self.caption_dropout < 1:
            raise TaskError(f"--task.caption-dropout must be at least 0 and below 1, not {self.caption_dropout}")
        for name in ("train_items", "test_items", "base_items"):
            if getattr(self, name) < 10:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least 10, not {getattr(self, name)}")
        return TextToImage(self, device)

    def skeleton(self) -> DiffusionSkeleton:
        from tasks.diffusion.skeleton import DiffusionSkeleton

        return DiffusionSkeleton(self.base, self.resolution)

    def splits(self, resolution: int):
        """The pictures, at `resolution` pixels a side."""
        from tasks.diffusion import data

        if self.data == "creatures":
            return data.creatures(self.train_items, self.test_items, resolution)
        if self.data == "openmoji":
            return data.openmoji_animals(self.test_items, resolution)
        return data.image_folder(Path(self.data), self.test_items, resolution, self.caption_column, self.on_bad_item)
