"""The base class of image metrics. A new metric is one file beside this one and its name in a task's list."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.base import Figure, Metric, release

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs
    from tasks.diffusion.evaluation.models import EvaluationModels
    from tasks.diffusion.evaluation.prompts import Prompt

FEWEST_PICTURES = 10
"""Of each set of which a distance is measured: one in each group of its jackknife. A group without a picture leaves
nothing out, and the replicates' spread is then no standard error (Shao & Tu 1995, section 2.3)."""
NEEDS = {
    "pictures": "at least one test prompt",
    "10 prompts": "at least 10 test prompts, for an interval",
    "10 pictures": "at least 10 test prompts and 10 real pictures to compare with, for a distribution and its interval",
    "image features": "--task.features with an image classifier's features (efficientnet, inception)",
    "CLIP features": "--task.features with a CLIP",
    "attributes": "prompts with known attributes (the drawn data)",
    "class prompt": "a prompt that names the subject's class",
    "base pictures": "at least one prompt of the base's pretraining domain (--task.drift-items)",
    "base attributes": "prompts of the base's pretraining domain with known attributes (the bundled base)",
    "prompt kinds": "prompts of four kinds (--task.prompt-kind-items)",
    "10 prompts of each kind": "--task.prompt-kind-items 10 or more, for an interval",
    "validation pictures": "at least one validation picture",
}
LABELS = ("better", "unit", "meaning", "perfect")  # fields that do not change the value


@dataclass(frozen=True)
class Measurement:
    """What one metric measured under one evaluation seed. `figure` is None if it needs the base's evaluation beside it.

    `item_values` has one value per test picture, for comparisons picture by picture. `artifacts` are tensors for
    `compare`. `interval` computes the figure's bounds from its value and `sample` (k,), and `error` the standard error
    over items; under several evaluation seeds from the means of value and sample, such as the values of the pictures.
    """

    figure: Figure | None = None
    item_values: Sequence[float] | None = None
    artifacts: Mapping[str, Tensor] = field(default_factory=dict)
    sample: Any = None
    interval: Callable[[float, Any], tuple[float, float]] | None = None
    error: Callable[[Any], float] | None = None


@dataclass(frozen=True)
class ImageMetric(Metric, ABC):
    """A metric of generated pictures. Subclasses give the declaration as field defaults, and compute one figure.

    Every name in `needs` is a key of `NEEDS`; an evaluation that lacks one leaves the metric out. Modules of metrics
    import torch inside functions only, so that a task's list of metrics costs no import. `packages` names those that
    compute the value or its interval.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "scipy")

    def __post_init__(self) -> None:
        unknown = set(self.needs) - NEEDS.keys()
        if unknown:
            raise ValueError(f"metric '{self.name}' needs {sorted(unknown)}; valid needs: {', '.join(NEEDS)}")

    def implementation(self) -> list[Any]:
        """Every field that can change the value (name and version included), and the release of each package."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LABELS}
        return [settings, {package: release(package) for package in self.packages}]

    @abstractmethod
    def compute(self, inputs: MetricInputs) -> Measurement:
        """Measure the model that `inputs` samples from."""

    def compare(
        self, models: EvaluationModels, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> Measurement | None:
        """What a metric measures that compares the tuned model with the base, from both evaluations' artifacts."""
        return None

    def mean(
        self, values: Any, extractor: str, prompts: Sequence[Prompt] | None = None, **references: float
    ) -> Measurement:
        """The mean of values (n,), in this metric's unit, with a 95 % t interval.

        `prompts` are the test's if the values are of its pictures: they are then those of the items, and a prompt's
        pictures a cluster.
        """
        from tasks.diffusion.evaluation.intervals import mean_error, mean_figure, mean_interval

        texts = None if prompts is None else [prompt.text for prompt in prompts]
        return Measurement(
            mean_figure(values, self.unit, extractor, texts, **references),
            None if prompts is None else values.tolist(),
            sample=values,
            interval=lambda value, sample: mean_interval(sample, self.unit, texts),
            error=lambda sample: mean_error(sample, texts)[0],
        )
