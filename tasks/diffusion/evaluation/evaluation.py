"""The evaluation of a diffusion task: sample its prompts, compute its metrics, draw a grid of before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tasks.base import Evaluation, Metric
from tasks.cache import tensor_digest
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.evaluation.grid import save_before_after, save_pictures
from tasks.diffusion.evaluation.inputs import MetricInputs
from tasks.diffusion.evaluation.metrics.image_metric import FEWEST_PICTURES, NEEDS, ImageMetric, Measurement
from tasks.diffusion.evaluation.seeds import average, of_seed, seed_name
from tasks.fixed_part import fixed_part

SHOWN = 8  # pictures of the grid


class ImageEvaluation:
    """Computes every metric of a task's list whose needs are met; the others are in `left_out`, with what they lack.

    Figures are means over the evaluation seeds 0 to `seeds` - 1.
    """

    def __init__(self, metrics: Sequence[Metric], inputs: MetricInputs, seeds: int = 1):
        self.inputs, self.seeds = inputs, seeds
        met = self._met()
        missing = {metric.name: [need for need in metric.needs if need not in met] for metric in metrics}
        self.metrics = [cast(ImageMetric, metric) for metric in metrics if not missing[metric.name]]
        self.left_out = {name: needs for name, needs in missing.items() if needs}

    def part(self, share: float) -> ImageEvaluation:
        """The evaluation of a fixed share of the prompts, against all real pictures.

        It leaves out the validation loss, which the step log has, and the kinds of prompts.
        """
        sampled = self.inputs.sampled
        prompts, base_prompts = (
            [each[i] for i in fixed_part(len(each), share, FEWEST_PICTURES)]
            for each in (sampled.prompts, sampled.base_prompts)
        )
        inputs = replace(self.inputs, sampled=replace(sampled, prompts=prompts, base_prompts=base_prompts, kinds={}))
        return ImageEvaluation([m for m in self.metrics if "validation pictures" not in m.needs], inputs, self.seeds)

    def _met(self) -> set[str]:
        """The needs (`image_metric.NEEDS`) that this evaluation meets."""
        inputs, kinds = self.inputs, self.inputs.sampled.kinds
        prompts, base_prompts = inputs.prompts, inputs.base_prompts
        conditions = {
            "pictures": bool(prompts),
            "10 prompts": len(prompts) >= FEWEST_PICTURES,
            "10 pictures": min(len(prompts), len(inputs.real.splits.reference)) >= FEWEST_PICTURES,
            "image features": not inputs.models.has_clip_features,
            "CLIP features": inputs.models.has_clip_features,
            "attributes": bool(prompts) and bool(prompts[0].attributes),
            "class prompt": inputs.real.class_prompt is not None,
            "base pictures": bool(base_prompts),
            "base attributes": bool(base_prompts) and bool(base_prompts[0].attributes),
            "prompt kinds": bool(kinds),
            "10 prompts of each kind": min(map(len, kinds.values()), default=0) >= FEWEST_PICTURES,
            "validation pictures": len(inputs.real.splits.validation) > 0,
        }
        return {need for need, met in conditions.items() if met}

    def reasons(self) -> dict[str, str]:
        """Why each metric of the task's list is left out."""
        return {name: f"needs {', and '.join(NEEDS[need] for need in needs)}" for name, needs in self.left_out.items()}

    def key(self) -> dict[str, Any]:
        """All that `measure` reads apart from the model: pictures, captions, prompts, settings, models, metrics."""
        inputs, splits = self.inputs, self.inputs.real.splits
        read = {name: getattr(splits, name) for name in ("validation", "test", "reference", "floor")}
        return {
            "pictures": {name: _content(pictures) for name, pictures in read.items()},
            "sampled": inputs.sampled.key(),
            "evaluation_seeds": self.seeds,
            "class_prompt": inputs.real.class_prompt,
            "models": inputs.models.key,
            "metrics": [metric.implementation() for metric in self.metrics],
        }

    def measure(self, output: Path | None) -> Evaluation:
        """Measure the model in its current state; write some of its pictures below `output`."""
        by_seed, artifacts = [], {}
        for seed in range(self.seeds):
            inputs = replace(self.inputs, seed=seed)  # without the pictures of an earlier evaluation
            by_seed.append({metric.name: metric.compute(inputs) for metric in self.metrics})
            for measurement in by_seed[seed].values():
                artifacts |= {seed_name(name, seed): tensor for name, tensor in measurement.artifacts.items()}
            if inputs.prompts and seed == 0:
                artifacts["shown"] = inputs.pictures[:SHOWN]
            if output is not None and seed == 0:
                for kind in inputs.sampled.kinds:
                    save_pictures(inputs.of_kind(kind).pictures[:SHOWN], output / "prompt-kinds" / kind)
        if output is not None and "shown" in artifacts:
            save_pictures(artifacts["shown"], output)
        measurements = {metric.name: average([each[metric.name] for each in by_seed]) for metric in self.metrics}
        figures = {name: each.figure for name, each in measurements.items() if each.figure is not None}
        return Evaluation(figures, self._items(measurements), artifacts, self.reasons())

    def _items(self, measurements: dict[str, Measurement]) -> list[dict[str, Any]]:
        """One row per prompt, with the value of each metric that has one per picture."""
        columns = {name: each.item_values for name, each in measurements.items() if each.item_values is not None}
        return [
            {"item": i, "prompt": prompt.text} | {name: values[i] for name, values in columns.items()}
            for i, prompt in enumerate(self.inputs.prompts)
        ]

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None) -> Evaluation:
        """Add the figures that compare both evaluations, the grid `before_after.png`, and its rows as pictures."""
        for metric in self.metrics:
            compared = [
                metric.compare(self.inputs.models, of_seed(base.artifacts, seed), of_seed(tuned.artifacts, seed))
                for seed in range(self.seeds)
            ]
            figure = average([each for each in compared if each is not None]).figure
            if figure is not None:
                tuned.figures[metric.name] = figure
        if output is not None and "shown" in tuned.artifacts:
            rows = {
                "real": self.inputs.real.splits.test.pixels[:SHOWN],
                "base": base.artifacts["shown"],
                "tuned": tuned.artifacts["shown"],
            }
            titles = [prompt.text for prompt in self.inputs.prompts[:SHOWN]]
            save_before_after(rows, titles, output / "before_after.png")
            for name in ("real", "base"):
                save_pictures(rows[name], output / name)
        return tuned


def _content(pictures: Pictures) -> dict[str, Any]:
    """All of a set of pictures that a metric can read, for cache keys."""
    return {
        "pixels": tensor_digest(pictures.pixels),
        "captions": list(pictures.captions),
        "attributes": [dict(attributes) for attributes in pictures.attributes],
    }
