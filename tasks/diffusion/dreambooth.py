"""Subject-driven generation from a few pictures: DreamBooth (Ruiz et al. 2022, arXiv 2208.12242)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tasks.base import Metric, Task, declare
from tasks.diffusion.settings import CHOSEN, DiffusionSettings
from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.data.splits import Splits
    from tasks.diffusion.dreambooth_task import SubjectDriven
    from tasks.diffusion.model.meta_model import DiffusionMetaModel
    from tasks.diffusion.worlds.drawing import Attributes

SUBJECT_METRICS = declare(
    Metric("similarity", "higher", "cosine", "pictures of the subject's prompts to kept pictures of the subject"),
    Metric("clip_i", "higher", "cosine", "the same with a CLIP's picture embeddings (CLIP-I)"),
    Metric("clip_score", "higher", "100 x cosine", "agreement with the prompt that names the class (CLIP-T)"),
    Metric("alignment", "higher", "share", "the class and the prompt's background found in the picture"),
    Metric("leakage", "lower", "cosine", "pictures of the class prompt to the subject: the class forgets its variety"),
    Metric("drift", "lower", "1 - cosine", "change of the pictures of prompts that the base knew"),
    Metric("base_alignment", "higher", "share", "attributes of the base's own prompts found in the picture"),
    Metric("validation_loss", "lower", "mean squared error", "loss on kept pictures with fixed noise"),
)
DRAWN = {"instance_prompt": "a picture of sks mushroom", "class_prompt": "a picture of a mushroom", "kind": "mushroom"}
# The first of the paper's prompts that suit objects and living subjects alike (its supplement, "Dataset").
CONTEXTS = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric",
    "on top of a wooden floor", "with a city in the background", "with a mountain in the background",
    "with a blue house in the background", "on top of a purple rug in a forest",
)  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """`text` is sampled; `described` says the same with the class, for a CLIP that has never seen the subject."""

    text: str
    described: str
    attributes: Attributes


@dataclass(frozen=True)
class DreamBooth(DiffusionSettings, Task, name="sd-dreambooth"):
    """DreamBooth: teach a Stable Diffusion one subject from a few pictures and a rare word
    (Ruiz et al. 2022, arXiv 2208.12242)."""

    metrics = SUBJECT_METRICS
    primary_metric = "similarity"
    input_size_field = "resolution"
    chosen: ClassVar = CHOSEN | {"caption_dropout": 0.0, "prior_preservation": True, "test_items": 40}

    data: str = "character"
    """The subject's pictures: "character" (drawn: one mushroom with a face, in several poses), or a folder."""
    instance_prompt: str | None = None
    """Names the subject with a rare word: "a photo of sks dog". Default: the drawn character's."""
    class_prompt: str | None = None
    """Names its class: "a photo of a dog". Default: the drawn character's."""
    prior_preservation: bool | None = None
    """Train on the base's own pictures of the class prompt too. Default: the base's card; the tutorial does not."""
    prior_loss_weight: float = 1.0
    """What the class pictures' loss counts."""
    num_class_images: int = 100
    """Class pictures, made once by the base."""
    train_items: int = 6
    """Pictures of the drawn character for training (a folder is taken whole)."""
    held_out: int | None = None
    """Pictures of the subject kept for the evaluation. Default: 24 drawn ones, or every fifth of a folder."""
    test_items: int | None = None
    """Prompts of the subject that are sampled. Default: the base's card."""
    drift_items: int = 50
    """Prompts of the base's own world on which drift is measured."""

    def prepare(self, device: torch.device) -> SubjectDriven:
        from tasks.diffusion.dreambooth_task import SubjectDriven

        task = self.filled()
        task.check()
        return SubjectDriven(task, device)

    def meta_model(self) -> DiffusionMetaModel:
        from tasks.diffusion.model.meta_model import DiffusionMetaModel

        return DiffusionMetaModel(self.filled())

    @property
    def is_drawn(self) -> bool:
        return self.data == "character"

    def check(self) -> None:
        super().check()
        if not self.is_drawn and not self.instance_prompt:
            raise TaskError("name the subject, for example --task.instance-prompt 'a photo of sks dog'")
        if self.prior_preservation and not self._class_prompt:
            raise TaskError(
                "prior preservation needs the class, for example --task.class-prompt 'a photo of a dog', "
                "or leave it out with --task.no-prior-preservation"
            )
        if self.prior_loss_weight <= 0:
            raise TaskError(f"--task.prior-loss-weight must be above 0, not {self.prior_loss_weight}")
        for name in ("num_class_images", "train_items", "held_out", "test_items", "drift_items"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least 1, not {value}")

    @property
    def subject_prompt(self) -> str:
        return self.instance_prompt or DRAWN["instance_prompt"]

    @property
    def _class_prompt(self) -> str | None:
        return self.class_prompt or (DRAWN["class_prompt"] if self.is_drawn else None)

    @property
    def described_prompt(self) -> str:
        """The class prompt, or the subject's own where no class is named."""
        return self._class_prompt or self.subject_prompt

    def prompts(self) -> list[Prompt]:
        """`test_items` prompts: the subject's own in turn with the contexts."""
        from tasks.diffusion.worlds.drawing import BACKGROUNDS

        if self.is_drawn:
            attributes = [{"kind": DRAWN["kind"], "background": background} for background in BACKGROUNDS]
            contexts = [(f" on a {each['background']} background", each) for each in attributes]
        else:
            contexts = [("", {}), *((f" {context}", {}) for context in CONTEXTS)]
        chosen = [contexts[i % len(contexts)] for i in range(self.test_items or len(contexts))]
        return [Prompt(self.subject_prompt + words, self.described_prompt + words, each) for words, each in chosen]

    def splits(self, resolution: int) -> Splits:
        """The subject's pictures, at `resolution` pixels a side: for training, and kept."""
        from tasks.diffusion.data import splits

        if self.is_drawn:
            return splits.character(self.train_items, self.held_out or 24, resolution, self.subject_prompt)
        folder, keep_whole = Path(self.data), self.crop == "random"
        return splits.subject_folder(folder, self.held_out, resolution, self.subject_prompt, keep_whole)
