"""A planted answer for a Stable Diffusion: the noise predictions of a teacher whose update has a known rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.bounds import LARGEST_WIDTH, bounded
from tasks.base import Metric, Task, declare
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.planted.recovered import DISTANCE, RECOVERED
from tasks.pretrained.settings import LARGEST_ITEMS, PretrainedSettings

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
    from tasks.diffusion.model.meta_model import DiffusionMetaModel
    from tasks.diffusion.planted_task import LearnedDenoiser
    from tasks.planted.update import PlantedUpdate

TEACHER_DISTANCE = Metric(
    DISTANCE, "lower", "mean squared error", "error of the student's against the teacher's prediction of the noise"
)
VALIDATION_LOSS = Metric("validation_loss", "lower", "mean squared error", "teacher_distance on validation pictures")


@dataclass(frozen=True)
class PlantedDenoiser(PretrainedSettings, Task, name="sd-planted"):
    """Planted rank: learn the outputs of a teacher, the base plus a random update of known rank (Stable Diffusion)."""

    other_names = ("sd-teacher", "planted-pictures")
    metrics = declare(RECOVERED, TEACHER_DISTANCE, VALIDATION_LOSS)
    primary_metric = "recovered"
    generates: ClassVar[Literal["pictures"]] = "pictures"
    option_hints: ClassVar = {
        "data": "the inputs are drawn creatures with noise",
        "seed": "--task.teacher-seed draws the teacher's update, --train.seed the student's initialisation and order",
        "k": "it is called --task.rank here",
    }

    base: str = STABLE_DIFFUSION
    """The Stable Diffusion: the bundled "mini", the published "sd-1-5", "sd-2-1", "sd-2-1-base" or "sdxl", a
    folder in diffusers' layout, or a hub repository such as "org/name" or "org/name@revision"."""
    allow_pickle: bool = False
    """Also accept weights in PyTorch's old pickle format, if there are no safetensors."""
    rank: int = bounded(4, at_least=1, at_most=LARGEST_WIDTH)
    """k, the rank of the teacher's update in each layer; its k singular values are equal."""
    strength: float = bounded(0.1, above=0, at_most=100)
    """Frobenius norm of the teacher's update of a layer, as a share of that of the layer's weight. If it is small,
    effects add up, so that a part of rank r of the teacher's update has r / k of its effect."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers that the teacher changes (as --adapter.targets of lora); "auto" takes what the base's card
    recommends."""
    teacher_seed: int = bounded(0, at_least=0, at_most=2**32)
    """Seed of the teacher's update, which all runs share."""
    train_items: int = bounded(1000, at_least=1, at_most=LARGEST_ITEMS)
    """Drawn creatures for training; each draw of one has other noise and another timestep."""
    test_items: int = bounded(200, at_least=2, at_most=LARGEST_ITEMS)
    """Drawn creatures in validation, and in test; each has fixed noise and a fixed timestep."""

    @property
    def update(self) -> PlantedUpdate:
        from tasks.planted.update import PlantedUpdate

        return PlantedUpdate(self.rank, self.strength, self.targets, self.teacher_seed)

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

        return LoadedStableDiffusion(self.base, device, None, self.allow_pickle)

    def meta_model(self) -> DiffusionMetaModel:
        from tasks.diffusion.planted_task import TeacherMetaModel

        return TeacherMetaModel(self.base, self.update, self.test_items)

    def base_revision(self) -> str:
        from tasks.diffusion.model.bases import revision_of

        return revision_of(self.base, self.allow_pickle)

    def data_digest(self) -> None:
        """The creatures are drawn."""
