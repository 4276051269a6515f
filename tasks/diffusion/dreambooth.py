"""Subject-driven generation from a few pictures: DreamBooth (Ruiz et al. 2022, arXiv 2208.12242)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import bounded
from tasks.base import Task, declare
from tasks.diffusion.evaluation.metrics.alignment import Alignment
from tasks.diffusion.evaluation.metrics.base_alignment import BaseAlignment
from tasks.diffusion.evaluation.metrics.clip_i import ClipImageSimilarity
from tasks.diffusion.evaluation.metrics.clip_score import ClipScore
from tasks.diffusion.evaluation.metrics.drift import Drift
from tasks.diffusion.evaluation.metrics.leakage import Leakage
from tasks.diffusion.evaluation.metrics.similarity import Similarity
from tasks.diffusion.evaluation.metrics.validation_loss import ValidationLoss
from tasks.diffusion.evaluation.metrics.vendi import VendiScore
from tasks.diffusion.evaluation.prompt_kinds import KINDS, in_styles, named, repeated
from tasks.diffusion.evaluation.prompts import Prompt, base_prompts
from tasks.diffusion.settings import DEFAULTS, OPTION_HINTS, DiffusionSettings, value_of
from tasks.diffusion.worlds import REVISION
from tasks.errors import TaskError
from tasks.pretrained.settings import LARGEST_ITEMS

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.data.held_out import HeldOut
    from tasks.diffusion.data.splits import PictureSplits
    from tasks.diffusion.dreambooth_task import SubjectDriven
    from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric

DRAWN = {"instance_prompt": "a picture of sks mushroom", "class_prompt": "a picture of a mushroom", "kind": "mushroom"}
DRAWN_HELD_OUT = 24
CLIP_T = "agreement with the prompt that names the class (CLIP-T)"
KIND_AND_BACKGROUND = Alignment(
    meaning="the class and the prompt's background found in the picture",
    world="objects",
    attributes=("kind", "background"),
    shuffle=False,  # every prompt names the same class
)
PAPERS_PICTURES = 6  # at most that Ruiz et al. train on
# The first of the paper's prompts that suit objects and living subjects alike (its supplement, "Dataset").
CONTEXTS = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric",
    "on top of a wooden floor", "with a city in the background", "with a mountain in the background",
    "with a blue house in the background", "on top of a purple rug in a forest",
)  # fmt: skip


@dataclass(frozen=True)
class DreamBooth(DiffusionSettings, Task, name="sd-dreambooth"):
    """DreamBooth: teach a Stable Diffusion one subject from a few pictures and a rare word
    (Ruiz et al. 2022, arXiv 2208.12242)."""

    metrics = declare(
        Similarity(),
        ClipImageSimilarity(),
        ClipScore(meaning=CLIP_T),
        KIND_AND_BACKGROUND,
        Leakage(),
        VendiScore(),
        BaseAlignment(),
        ValidationLoss(),
        Drift(),
    )
    primary_metric = "similarity"
    input_size_field = "resolution"
    data_size_field = "train_items"
    other_names = ("dreambooth",)
    option_hints: ClassVar = OPTION_HINTS | {
        "instance_data_dir": "it is called --task.data here",
        "class_data_dir": "class pictures are sampled from the base: see --task.num-class-images",
        "with_prior_preservation": "it is called --task.prior-preservation here",
        "validation_items": "a tenth of a folder serves validation, and as many drawn pictures as --task.held-out",
    }
    defaults: ClassVar = DEFAULTS | {"caption_dropout": 0.0, "prior_preservation": True, "test_items": 40}

    data: str = "character"
    """The subject's pictures: "character" (drawn: one mushroom with a face, in several poses), or a folder."""
    instance_prompt: str | None = None
    """Names the subject with a rare word: "a photo of sks dog". Default: the drawn character's."""
    class_prompt: str | None = None
    """Names its class: "a photo of a dog". Default: the drawn character's."""
    prior_preservation: bool | None = None
    """Also train on the base's own pictures of the class prompt. Default: the base's card; the tutorial does not."""
    prior_loss_weight: float = bounded(1.0, above=0, at_most=LARGEST_ITEMS)
    """Weight of the class pictures' loss."""
    num_class_images: int = bounded(100, at_least=1, at_most=LARGEST_ITEMS)
    """Number of class pictures, sampled once from the base."""
    train_items: int = bounded(6, at_least=1, at_most=LARGEST_ITEMS)
    """Number of pictures of the drawn character for training; all of a folder that are not held out train."""
    held_out: int | None = bounded(None, at_least=1, at_most=LARGEST_ITEMS)
    """Number of the subject's pictures held out for the test. Default: 24 drawn ones, or a fifth of a folder."""
    test_items: int | None = bounded(None, at_least=1, at_most=LARGEST_ITEMS)
    """Number of the subject's prompts to sample. Default: the base's card."""
    drift_items: int = bounded(50, at_least=1, at_most=LARGEST_ITEMS)
    """Maximum number of prompts of the base's pretraining domain for drift."""

    def data_size(self) -> int | None:
        return self.train_items if self.is_drawn else None

    def prepare(self, device: torch.device) -> SubjectDriven:
        from tasks.diffusion.dreambooth_task import Subject, SubjectDriven

        task = self.filled()
        task.check_settings()
        subject = Subject(task.subject_prompt, task.described_prompt, task.class_pictures(), task.prior_loss_weight)
        return SubjectDriven(task, device, subject)

    @property
    def is_drawn(self) -> bool:
        return self.data == "character"

    def check_settings(self) -> None:
        super().check_settings()
        if not self.is_drawn and not self.instance_prompt:
            raise TaskError("name the subject, for example --task.instance-prompt 'a photo of sks dog'")
        if self.filled().prior_preservation and not self._class_prompt:
            raise TaskError(
                "prior preservation needs the class, for example --task.class-prompt 'a photo of a dog'; "
                "--task.prior-preservation False turns it off"
            )

    @property
    def subject_prompt(self) -> str:
        return self.instance_prompt or DRAWN["instance_prompt"]

    @property
    def _class_prompt(self) -> str | None:
        return self.class_prompt or (DRAWN["class_prompt"] if self.is_drawn else None)

    @property
    def described_prompt(self) -> str:
        """The class prompt, or the subject's own if no class is named."""
        return self._class_prompt or self.subject_prompt

    def prompts(self, splits: PictureSplits) -> list[Prompt]:
        """`test_items` prompts: the subject's, in each context in turn."""
        from tasks.diffusion.worlds.drawing import BACKGROUNDS

        if self.is_drawn:
            shown = [{"kind": DRAWN["kind"], "background": background} for background in BACKGROUNDS]
            contexts = [(f" on a {each['background']} background", each) for each in shown]
        else:
            contexts = [("", {}), *((f" {context}", {}) for context in CONTEXTS)]
        chosen = [contexts[i % len(contexts)] for i in range(value_of(self.test_items))]
        return [Prompt(self.subject_prompt + words, self.described_prompt + words, shown) for words, shown in chosen]

    def prompts_of_kinds(self, splits: PictureSplits) -> dict[str, list[Prompt]]:
        """The training caption; its subject without other words; contexts that training lacks; other styles."""
        count = self.prompt_kind_items
        shown = {"kind": DRAWN["kind"]} if self.is_drawn else {}
        trained = Prompt(self.subject_prompt, self.described_prompt, shown)
        trigger = Prompt(named(trained.text), named(trained.caption), shown)
        return {
            "trained": [trained] * count,
            "trigger": [trigger] * count,
            "content": repeated([_in_context(trained, *each) for each in self._new_contexts()], count),
            "style": in_styles([trained] * count, self.base),
        }

    def _new_contexts(self) -> list[tuple[str, dict[str, str]]]:
        """Words and attributes of contexts that the training pictures do not show, as far as that is known."""
        if not self.is_drawn:
            return [(context, {}) for context in CONTEXTS]
        from tasks.diffusion.worlds.character import Character
        from tasks.diffusion.worlds.drawing import BACKGROUNDS

        new = [background for background in BACKGROUNDS if Character().held_out({"background": background})]
        return [(f"on a {background} background", {"background": background}) for background in new]

    def metrics_of_kinds(self) -> dict[str, list[ImageMetric]]:
        everywhere: list[ImageMetric] = [Similarity(), ClipScore(meaning=CLIP_T), VendiScore()]
        if not self.is_drawn:
            return dict.fromkeys(KINDS, everywhere)
        kind = replace(KIND_AND_BACKGROUND, meaning="the class found in the picture", attributes=("kind",))
        named_class, in_context = [*everywhere, kind], [*everywhere, KIND_AND_BACKGROUND]
        return {"trained": named_class, "trigger": named_class, "content": in_context, "style": named_class}

    def base_prompts(self) -> list[Prompt]:
        return base_prompts(self.base, self.drift_items)

    def sources(self) -> tuple[Sequence[tuple[str, Path | bytes]], Collection[str]]:
        from tasks.diffusion.data.subject_folder import subject_files

        files = () if self.is_drawn else subject_files(Path(self.data), self.held_out)
        return [(file.name, file) for file in files], ()

    def data_digest(self) -> str | None:
        from tasks.diffusion.data.subject_folder import subject_files
        from tasks.file_digests import named_digest

        if self.is_drawn:
            return REVISION
        folder = Path(self.data)
        return named_digest(folder, subject_files(folder, self.held_out))

    def splits(self, resolution: int) -> PictureSplits:
        """The subject's pictures: for training, and held out for validation, test and floor."""
        from tasks.diffusion.data import splits, subject_folder

        if self.is_drawn:
            held_out = DRAWN_HELD_OUT if self.held_out is None else self.held_out
            shown = {"kind": DRAWN["kind"]}
            return splits.character(self.train_items, held_out, resolution, self.subject_prompt, shown)
        folder, keep_whole = Path(self.data), self.crop == "random"
        return subject_folder.subject_folder(folder, self.held_out, resolution, self.subject_prompt, keep_whole)

    def class_pictures(self) -> int:
        return self.num_class_images if self.prior_preservation else 0

    def sampled_sets(self) -> tuple[int, ...]:
        """The subject's, as many of its class, and those of drift."""
        return value_of(self.test_items), value_of(self.test_items), self.drift_items

    def real_pictures(self) -> int:
        return self._held_out().test

    def validation_pictures(self) -> int:
        return self._held_out().validation

    def _held_out(self) -> HeldOut:
        """The most pictures in each split; of a folder that is not on this machine as few as in the papers."""
        from tasks.diffusion.data.held_out import HeldOut
        from tasks.diffusion.data.subject_folder import held_out_sizes, subject_files

        if self.is_drawn:
            count = DRAWN_HELD_OUT if self.held_out is None else self.held_out
            return HeldOut(count, count, count)
        folder = Path(self.data)
        count = len(subject_files(folder, self.held_out)) if folder.is_dir() else PAPERS_PICTURES
        return held_out_sizes(count, self.held_out)


def _in_context(prompt: Prompt, words: str, shown: dict[str, str]) -> Prompt:
    """The prompt with further words, and the attributes that they add."""
    return Prompt(f"{prompt.text} {words}", f"{prompt.caption} {words}", {**prompt.attributes, **shown})
