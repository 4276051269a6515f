"""What image metrics read. Anything costly is computed on first use and shared by all metrics of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tasks.diffusion.data.splits import PictureSplits
from tasks.diffusion.evaluation.features import cached_features, features_of
from tasks.diffusion.evaluation.models import EvaluationModels
from tasks.diffusion.evaluation.prompts import Prompt
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.diffusion.worlds.drawing import SIZE, Attributes

STREAMS = 2  # of noise for each evaluation seed
CLASS_STREAM = 1  # the one that pictures of the class prompt start from


class RealPictures:
    """The real pictures that generated ones are compared with, by the name of their split (a field of `PictureSplits`).

    `decoded` ones went through the VAE, as every generated picture does. None of this depends on the model's adapter,
    so each tensor is computed once.
    """

    def __init__(
        self, splits: PictureSplits, base: StableDiffusion, models: EvaluationModels, class_prompt: str | None
    ):
        self.splits, self.base, self.models, self.class_prompt = splits, base, models, class_prompt
        self._computed: dict[tuple[str, str, bool], Tensor] = {}

    @property
    def captions(self) -> list[str]:
        """Captions of the test pictures in words that an independent CLIP knows."""
        test = self.splits.test
        return test.captions if self.class_prompt is None else [self.class_prompt] * len(test)

    def pixels(self, split: str, decoded: bool = False) -> Tensor:
        """Pictures uint8 (n, 3, height, width)."""
        pixels = getattr(self.splits, split).pixels
        if not decoded or not len(pixels):
            return pixels
        return self._once("pixels", split, decoded, lambda: self._through_vae(pixels))

    def features(self, split: str, decoded: bool = False) -> Tensor:
        """Features (n, d)."""
        extractor, device = self.models.extractor, self.models.device
        pixels = self.pixels(split, decoded)
        return self._once("features", split, decoded, lambda: cached_features(extractor, pixels, device))

    def embeddings(self, split: str, decoded: bool = False) -> Tensor:
        """Embeddings (n, d) by the CLIP scorer."""
        pixels = self.pixels(split, decoded)
        return self._once("embeddings", split, decoded, lambda: self.models.scorer.embeddings(pixels))

    def _through_vae(self, pixels: Tensor) -> Tensor:
        return self.base.decode_latents(self.base.encode_images(pixels)[:, 0])

    def _once(self, kind: str, split: str, decoded: bool, compute: Callable[[], Tensor]) -> Tensor:
        key = (kind, split, decoded)
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]


@dataclass(frozen=True)
class SampledPrompts:
    """What an evaluation samples: `prompts` and, for what the base knew before, `base_prompts`; prompts of `kinds`.

    `sampling.seed` is that of the first evaluation seed.
    """

    prompts: Sequence[Prompt]
    base_prompts: Sequence[Prompt]
    sampling: Sampling
    kinds: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)

    def key(self) -> dict[str, Any]:
        """All of it, for cache keys; without kinds of prompts as before there were any."""
        return {name: value for name, value in asdict(self).items() if name != "kinds" or value}


@dataclass
class MetricInputs:
    """One evaluation of the model in its current state. Pictures are uint8 (n, 3, height, width).

    All that is random in it depends on the evaluation seed `seed`: the noise that pictures start from, and that of the
    validation loss. Results stay in the instance: `dataclasses.replace` makes one for the next evaluation.
    """

    base: StableDiffusion
    models: EvaluationModels
    real: RealPictures
    sampled: SampledPrompts
    validation_loss: Callable[[int], float]
    seed: int = 0
    _shown: dict[tuple[str, str], list[Attributes]] = field(default_factory=dict, init=False)
    _kinds: dict[str, MetricInputs] = field(default_factory=dict, init=False)

    @property
    def prompts(self) -> Sequence[Prompt]:
        return self.sampled.prompts

    def of_kind(self, kind: str) -> MetricInputs:
        """The same inputs with the prompts of one kind as the test's: picture i starts from the same noise."""
        if kind not in self._kinds:
            sampled = replace(self.sampled, prompts=self.sampled.kinds[kind], kinds={})
            self._kinds[kind] = replace(self, sampled=sampled)
        return self._kinds[kind]

    @property
    def base_prompts(self) -> Sequence[Prompt]:
        return self.sampled.base_prompts

    @property
    def sampling(self) -> Sampling:
        """The sampling of this evaluation seed."""
        return replace(self.sampled.sampling, seed=self.sampled.sampling.seed + STREAMS * self.seed)

    @property
    def captions(self) -> list[str]:
        """What each picture should show, in words that an independent CLIP knows."""
        return [prompt.caption for prompt in self.prompts]

    @cached_property
    def pictures(self) -> Tensor:
        """One picture per prompt."""
        return sample(self.base, [prompt.text for prompt in self.prompts], self.sampling, "sampling test prompts")

    @cached_property
    def features(self) -> Tensor:
        """Features (n, d) of the pictures."""
        return features_of(self.models.extractor, self.pictures, self.models.device)

    @cached_property
    def embeddings(self) -> Tensor:
        """Embeddings (n, d) of the pictures by the CLIP scorer."""
        return self.models.scorer.embeddings(self.pictures)

    @cached_property
    def base_pictures(self) -> Tensor:
        """One picture per prompt of the base's pretraining domain."""
        texts = [prompt.text for prompt in self.base_prompts]
        return sample(self.base, texts, self.sampling, "sampling the base's own prompts")

    @cached_property
    def base_features(self) -> Tensor:
        return features_of(self.models.extractor, self.base_pictures, self.models.device)

    @cached_property
    def class_features(self) -> Tensor:
        """Features (n, d) of as many pictures of the class prompt as there are prompts."""
        sampling = replace(self.sampling, seed=self.sampling.seed + CLASS_STREAM)
        prompts = [self.real.class_prompt or ""] * len(self.prompts)
        pictures = sample(self.base, prompts, sampling, "sampling the class prompt")
        return features_of(self.models.extractor, pictures, self.models.device)

    def attributes_shown(self, which: str, world: str) -> list[Attributes]:
        """The attributes of a drawn world that the classifier finds in "pictures", "base pictures" or "real pictures".

        Those are the test's, through the VAE.
        """
        if (which, world) not in self._shown:
            pixels = {
                "pictures": lambda: self.pictures,
                "base pictures": lambda: self.base_pictures,
                "real pictures": lambda: self.real.pixels("test", decoded=True),
            }[which]()
            if pixels.shape[-1] != SIZE:  # the classifier knows the worlds at the size that they are drawn in
                pixels = interpolate(pixels.float(), size=(SIZE, SIZE), mode="area").round().to(torch.uint8)
            self._shown[which, world] = self.models.classifier.predict(pixels.to(self.models.device), world)
        return self._shown[which, world]
