"""A planted answer for a language model: the next-token distributions of a teacher whose update has a known rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import bounded
from tasks.base import Task, declare
from tasks.errors import TaskError
from tasks.language.metrics.perplexity import DRIFT, FAMILIAR_PERPLEXITY
from tasks.language.style import ROWS_PER_PART, Style
from tasks.planted.recovered import RECOVERED, distances
from tasks.planted.settings import TeacherSettings
from tasks.pretrained.precision import QUANTISED
from tasks.pretrained.settings import LARGEST_ITEMS

if TYPE_CHECKING:
    import torch

    from tasks.language.model.loaded_base import LoadedLanguageModel
    from tasks.language.model.meta_model import LanguageMetaModel
    from tasks.language.planted_task import LearnedTeacher

TEACHER_DISTANCE, VALIDATION_LOSS = distances(
    "nats per token",
    "KL divergence of the student's from the teacher's next-token distribution",
    "the validation parts",
)


@dataclass(frozen=True)
class Planted(TeacherSettings, Style, Task, name="planted"):
    """Planted rank: learn the outputs of a teacher, the base plus a random update of known rank (language model)."""

    other_names = ("teacher", "distillation", "planted-rank")
    metrics = declare(RECOVERED, TEACHER_DISTANCE, FAMILIAR_PERPLEXITY, DRIFT, VALIDATION_LOSS)
    option_hints: ClassVar = {
        **Style.option_hints,
        **TeacherSettings.teacher_hints,
    }

    max_length: int = bounded(64, at_least=2, at_most=LARGEST_ITEMS)
    """Maximum length of a training row, in tokens."""

    def check_settings(self) -> None:
        super().check_settings()
        if self.base_precision in QUANTISED:
            raise TaskError(
                f"--task.base-precision {self.base_precision}: a teacher needs weights that are not quantised: "
                "choose bf16, or leave it out"
            )

    def prepare(self, device: torch.device) -> LearnedTeacher:
        from tasks.language.data import style_data
        from tasks.language.model import bases
        from tasks.language.planted_task import LearnedTeacher

        self.check_settings()
        splits = style_data.load(self.data, self.test_items)
        base = bases.load(self.base, device, self.allow_pickle, self.logits_at_once, self.base_precision)
        return LearnedTeacher(base, splits, self.max_length, self.drift_items, self.metrics, self.update)

    def load_base(self, device: torch.device) -> LoadedLanguageModel:
        loaded = super().load_base(device)
        self.update.prepare(loaded.backbone)
        return loaded

    def meta_model(self) -> LanguageMetaModel:
        from tasks.language.model.meta_model import EvaluationShape
        from tasks.language.planted_task import TeacherMetaModel

        shape = EvaluationShape(ROWS_PER_PART * self.test_items, 2 * self.drift_items, self.max_length)
        return TeacherMetaModel(self.base, self.max_length, self.update, shape, self.logits_at_once)
