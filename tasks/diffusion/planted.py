"""A planted answer for a Stable Diffusion: the noise predictions of a teacher whose update has a known rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.bounds import bounded
from tasks.base import Task, declare
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.diffusion.worlds import REVISION
from tasks.planted.recovered import RECOVERED, distances
from tasks.planted.settings import TeacherSettings
from tasks.pretrained.settings import LARGEST_ITEMS, PretrainedSettings

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
    from tasks.diffusion.model.meta_model import DiffusionMetaModel
    from tasks.diffusion.planted_task import LearnedDenoiser

TEACHER_DISTANCE, VALIDATION_LOSS = distances(
    "mean squared error", "error of the student's against the teacher's prediction of the noise", "validation pictures"
)


@dataclass(frozen=True)
class PlantedDenoiser(TeacherSettings, PretrainedSettings, Task, name="sd-planted"):
    """Planted rank: learn the outputs of a teacher, the base plus a random update of known rank (Stable Diffusion)."""

    other_names = ("sd-teacher", "planted-pictures")
    metrics = declare(RECOVERED, TEACHER_DISTANCE, VALIDATION_LOSS)
    generates: ClassVar[Literal["pictures"]] = "pictures"
    option_hints: ClassVar = {
        **TeacherSettings.teacher_hints,
        "data": "the inputs are drawn creatures with noise",
    }

    base: str = STABLE_DIFFUSION
    """The Stable Diffusion: the bundled "mini", the published "sd-1-5", "sd-2-1", "sd-2-1-base" or "sdxl", a
    folder in diffusers' layout, or a hub repository such as "org/name" or "org/name@revision"."""
    allow_pickle: bool = False
    """Also accept weights in PyTorch's old pickle format, if there are no safetensors."""
    train_items: int = bounded(1000, at_least=1, at_most=LARGEST_ITEMS)
    """Drawn creatures for training; each draw of one has other noise and another timestep."""
    test_items: int = bounded(200, at_least=2, at_most=LARGEST_ITEMS)
    """Drawn creatures in validation, and in test; each has fixed noise and a fixed timestep."""

    def recommended(self, adapter: str) -> dict[str, Any]:
        from tasks.diffusion.model.cards import recommended

        training, methods = (recommended(self.base, self.name, part) for part in ("train", "methods"))
        return training | methods.get(adapter, {})

    def prepare(self, device: torch.device) -> LearnedDenoiser:
        from tasks.diffusion.planted_task import LearnedDenoiser

        self.check_settings()
        return LearnedDenoiser(self.load_base(device), self.update, self.train_items, self.test_items, self.metrics)

    def load_base(self, device: torch.device) -> LoadedStableDiffusion:
        from tasks.diffusion.model.loaded_base import LoadedStableDiffusion

        loaded = LoadedStableDiffusion(self.base, device, None, self.allow_pickle)
        self.update.prepare(loaded.backbone)
        return loaded

    def meta_model(self) -> DiffusionMetaModel:
        from tasks.diffusion.planted_task import TeacherMetaModel

        return TeacherMetaModel(self.base, self.update, self.test_items)

    def base_revision(self) -> str:
        from tasks.diffusion.model.bases import revision_of

        return revision_of(self.base, self.allow_pickle)

    def data_digest(self) -> str:
        return REVISION
