"""The models that pictures are measured with: none of them conditions or trains the diffusion model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from tasks.bundled import bundled_bases
from tasks.diffusion.evaluation.attributes import AttributeClassifier
from tasks.diffusion.evaluation.clip_scorer import ClipScorer
from tasks.diffusion.evaluation.features import ClipFeatures, Extractor, extractor_of
from tasks.file_digests import file_digest


@dataclass(frozen=True)
class EvaluationModels:
    """A feature extractor, a CLIP scorer and the drawn worlds' attribute classifier, on one device."""

    extractor: Extractor
    scorer: ClipScorer
    classifier: AttributeClassifier
    device: torch.device

    @classmethod
    def load(cls, features: str, scorer: str, device: torch.device) -> EvaluationModels:
        """`features` and `scorer` as `--task.features` and `--task.scorer` name them. Raises TaskError."""
        source, name = (str(bundled_bases.SCORER), "bundled-clip-scorer") if scorer == "bundled" else (scorer, scorer)
        return cls(
            extractor_of(features, device),
            ClipScorer(source, name, device),
            AttributeClassifier.load(bundled_bases.CLASSIFIER).to(device),
            device,
        )

    @property
    def has_clip_features(self) -> bool:
        return isinstance(self.extractor, ClipFeatures)

    @cached_property
    def key(self) -> dict[str, Any]:
        """Names and content digests, for cache keys."""
        return {
            "extractor": [self.extractor.name, self.extractor.digest],
            "scorer": [self.scorer.name, self.scorer.digest],
            "classifier": [self.classifier.name, file_digest(bundled_bases.CLASSIFIER / "model.safetensors")],
        }
