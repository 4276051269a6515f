"""Another metric on the prompts of one kind: as in training, the trigger alone, altered content or altered style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement
from tasks.diffusion.evaluation.prompt_kinds import KINDS

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


OF_KIND = {"10 prompts": "10 prompts of each kind"}  # needs that the kind's prompts must meet, not the test's


@dataclass(frozen=True)
class OfKind(ImageMetric):
    """The figure of `metric` on pictures of the kind's prompts, from the noise of the test's first pictures."""

    metric: ImageMetric | None = None
    kind: str = ""

    @classmethod
    def of(cls, metric: ImageMetric, kind: str) -> OfKind:
        name, meaning = f"{kind}_{metric.name}", f"{metric.meaning}; {KINDS[kind]}"
        needs = ("prompt kinds", *(OF_KIND.get(need, need) for need in metric.needs))
        return cls(name, metric.better, metric.unit, meaning, needs, metric.version, metric=metric, kind=kind)

    @property
    def measured(self) -> ImageMetric:
        assert self.metric is not None, "made by `of`"
        return self.metric

    def implementation(self) -> list[Any]:
        return [self.kind, *self.measured.implementation()]

    def compute(self, inputs: MetricInputs) -> Measurement:
        """Without values of items: those are the test's pictures."""
        return replace(self.measured.compute(inputs.of_kind(self.kind)), item_values=None)


def of_kinds(metrics: Mapping[str, Iterable[ImageMetric]]) -> list[OfKind]:
    """The metrics of each kind, from those that its pictures are measured with."""
    return [OfKind.of(metric, kind) for kind, each in metrics.items() for metric in each]
