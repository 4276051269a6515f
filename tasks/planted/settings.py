"""The settings of a planted teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import LARGEST_WIDTH, bounded

if TYPE_CHECKING:
    from tasks.planted.update import PlantedUpdate


@dataclass(frozen=True)
class TeacherSettings:
    """A mixin for tasks whose teacher is the base plus a random update of known rank."""

    primary_metric: ClassVar[str] = "recovered"
    teacher_hints: ClassVar = {
        "seed": "--task.teacher-seed draws the teacher's update, --train.seed the student's initialisation and order",
        "k": "it is called --task.rank here",
    }

    rank: int = bounded(4, at_least=1, at_most=LARGEST_WIDTH)
    """k, the rank of the teacher's update in each layer; its k singular values are equal."""
    strength: float = bounded(0.1, above=0, at_most=100)
    """Frobenius norm of the teacher's update of a layer, as a share of that of the layer's weight. The smaller it is,
    the more nearly effects add up, so that a part of rank r of a layer's update has r / k of its effect."""
    targets: tuple[str, ...] = ("feed-forward.in",)
    """Roles of the layers of which the teacher changes the last ones (as --adapter.targets of lora); "auto" takes what
    the base's card recommends. To the student's method "auto" means the layers that the teacher changes."""
    layers: int = bounded(1, at_least=1, at_most=LARGEST_WIDTH)
    """Number of layers that the teacher changes, the last of those with the roles. In the last feed-forward layer LoRA
    of rank r < k recovers r / k or somewhat more. It recovers far more where attention mixes what a layer does at
    several positions, and where several layers can make up for one another."""
    teacher_seed: int = bounded(0, at_least=0, at_most=2**32)
    """Seed of the teacher's update, which all runs share."""

    @property
    def update(self) -> PlantedUpdate:
        from tasks.planted.update import PlantedUpdate

        return PlantedUpdate(self.rank, self.strength, self.targets, self.layers, self.teacher_seed)
