"""Alignment with the prompt: the share of its attributes that a classifier finds in the picture (drawn data only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class Alignment(ImageMetric):
    """The mean over `attributes` of 1 if the picture shows the prompt's value, else 0.

    `ceiling`: the test's pictures through the VAE. `shuffled`: the generated pictures with other prompts' attributes;
    leave it out if all prompts share most of theirs.
    """

    name: str = "alignment"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "share"
    meaning: str = "the prompt's eyes, head and limb found in the picture"
    needs: tuple[str, ...] = ("attributes",)
    version: int = 2
    world: Literal["creatures", "objects"] = "creatures"
    attributes: tuple[str, ...] = ("eyes", "head", "limb")  # colour and background transfer from the base
    shuffle: bool = True

    @classmethod
    def of_attribute(cls, attribute: str) -> Alignment:
        """The alignment of one attribute alone."""
        return cls(f"alignment_{attribute}", meaning=f"the prompt's {attribute} found", attributes=(attribute,))

    def compute(self, inputs: MetricInputs) -> Measurement:
        from tasks.diffusion.evaluation.intervals import derangement

        wanted = [prompt.attributes for prompt in inputs.prompts]
        shown = inputs.attributes_shown("pictures", self.world)
        values = shares_shown(shown, wanted, self.attributes)
        real = shares_shown(
            inputs.attributes_shown("real pictures", self.world), inputs.real.splits.test.attributes, self.attributes
        )
        references = {"ceiling": float(real.mean())}
        if self.shuffle:
            others = [wanted[i] for i in derangement(len(wanted))]
            references["shuffled"] = float(shares_shown(shown, others, self.attributes).mean())
        return self.mean(values, inputs.models.classifier.name, inputs.prompts, **references)


def shares_shown(
    shown: Sequence[Mapping[str, str]], wanted: Sequence[Mapping[str, str]], attributes: Sequence[str]
) -> Any:
    """The share of `attributes` whose wanted value each picture shows, (n,)."""
    import numpy as np

    hits = [[a[name] == b[name] for a, b in zip(shown, wanted, strict=True)] for name in attributes]
    return np.mean(np.array(hits, float), axis=0)
