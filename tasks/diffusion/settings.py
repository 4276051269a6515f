"""The settings that fine-tuning tasks of a Stable Diffusion share, by the names of diffusers' training scripts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from adapters.bounds import bounded
from tasks.base import Metric, declare
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.diffusion.evaluation.prompts import Prompt
from tasks.pretrained.precision import BasePrecision
from tasks.pretrained.settings import LARGEST_ITEMS, PretrainedSettings

if TYPE_CHECKING:
    import torch

    from tasks.data_report import DataReport
    from tasks.diffusion.data.splits import PictureSplits
    from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric
    from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
    from tasks.diffusion.model.meta_model import DiffusionMetaModel

Value = TypeVar("Value")
OPTION_HINTS = {  # options of diffusers' training scripts that have another name here
    "pretrained_model_name_or_path": "it is called --task.base here",
    "dataset_name": "it is called --task.data here",
    "train_data_dir": "it is called --task.data here",
    "center_crop": "--task.crop center is the same",
    "validation_prompt": "--task.validation-prompts takes one or several",
    "max_train_samples": "it is called --task.train-items here",
}
# where neither user nor card sets them
DEFAULTS = {"crop": "center", "random_flip": False, "caption_dropout": 0.1, "snr_gamma": "none"}


@dataclass(frozen=True)
class DiffusionSettings(PretrainedSettings, ABC):
    """Fields left at None take what the base's card recommends for the task, else `defaults`.

    A task is a subclass that is a `Task` too.
    """

    name: ClassVar[str]
    generates: ClassVar[Literal["pictures"]] = "pictures"
    metrics: ClassVar[Mapping[str, Metric]]
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS
    option_hints: ClassVar[Mapping[str, str]] = OPTION_HINTS
    evaluation_settings: ClassVar[tuple[str, ...]] = ("evaluation_seeds", "prompt_kind_items", "features", "scorer")

    base: str = STABLE_DIFFUSION
    """The Stable Diffusion: the bundled "mini", the published "sd-1-5", "sd-2-1", "sd-2-1-base" or "sdxl", a
    folder in diffusers' layout, or a hub repository such as "org/name" or "org/name@revision"."""
    allow_pickle: bool = False
    """Also accept weights in PyTorch's old pickle format, if there are no safetensors."""
    base_precision: BasePrecision | None = None
    """Storage of the frozen weights; the VAE's are always fp32. Default: the dtype of --train.mixed-precision, fp32
    where the weights themselves train. "nf4" (4 bits, as in QLoRA) and "int8" quantise the UNet with bitsandbytes on
    CUDA."""
    resolution: int | None = bounded(None, at_least=1, at_most=2**13)
    """Width and height of pictures in pixels. Default: the base's card, else the base's own."""
    crop: Literal["center", "random"] | None = None
    """The square of a picture to train on, after its shorter side is resized. Default: the base's card."""
    crops: int = bounded(4, at_least=1, at_most=1000)
    """Number of fixed crops per picture that are cached with --task.crop random, evenly spaced."""
    random_flip: bool | None = None
    """Mirror half of the pictures. Default: the base's card."""
    encode: Literal["cached", "on-the-fly"] = "cached"
    """Encode each crop and flip once and free the VAE, or crop, flip and encode in every training step."""
    caption_dropout: float | None = bounded(None, at_least=0, below=1)
    """Share of training captions replaced by the empty one, for classifier-free guidance. Default: the base's card."""
    noise_offset: float = bounded(0.0, at_least=0, at_most=100)
    """Scale of noise that is constant over each channel, for darker and brighter pictures; usually 0.05 to 0.1."""
    snr_gamma: float | Literal["none"] | None = bounded(None, above=0, at_most=LARGEST_ITEMS, words=("none",))
    """Weight the loss by min(SNR, gamma); 5 in the paper (Hang et al. 2023, arXiv 2303.09556); "none" weights nothing.
    Default: the base's card, else none."""
    train_text_encoder: bool = False
    """Also adapt the text encoder (SDXL: both); text states are then computed in every training step."""
    validation_prompts: tuple[str, ...] = ()
    """Prompts sampled during training, whenever the validation loss is measured; the pictures go to samples/."""
    num_inference_steps: int | None = bounded(None, at_least=1, at_most=1000)
    """DPM-Solver++ steps in the evaluation and for validation prompts. Default: the base's card."""
    guidance_scale: float | None = bounded(None, at_least=0, at_most=1000)
    """Guidance scale in the evaluation and for validation prompts. Default: the base's card."""
    evaluation_seeds: int = bounded(1, at_least=1, at_most=1000)
    """Number of evaluations of a model, each from other noise. Figures are means over them; with several, reports tell
    the noise of the evaluation from that between trainings."""
    prompt_kind_items: int = bounded(0, at_least=0, at_most=LARGEST_ITEMS)
    """Number of prompts of each of four kinds that the evaluation samples besides the test's: as in training, the
    trigger alone, altered content (combinations or contexts that training never showed), altered style. Each kind has
    its figures: KIND_similarity (--task.features, to real pictures), KIND_clip_score (--task.scorer), KIND_vendi
    (diversity, from 10 prompts on) and, for drawn data, KIND_alignment (the classifier of drawings). KIND is trained,
    trigger, content or style. Default: none."""
    features: str = "efficientnet"
    """Extractor of image features: "efficientnet", "inception" (torch-fidelity), or a CLIP (folder or hub name), which
    gives CMMD instead of KID and FID."""
    scorer: str = "bundled"
    """The CLIP of the CLIP score, never the one that conditions the UNet: "bundled", a folder or a hub name."""

    @property
    def samples_in_training(self) -> bool:
        return bool(self.validation_prompts)

    @abstractmethod
    def splits(self, resolution: int) -> PictureSplits:
        """The task's pictures, `resolution` pixels wide and high. `self` is what `filled` returned, as below."""

    @abstractmethod
    def prompts(self, splits: PictureSplits) -> list[Prompt]:
        """The prompts that the evaluation samples."""

    @abstractmethod
    def base_prompts(self) -> list[Prompt]:
        """Prompts of the base's pretraining domain, on which drift is measured."""

    def prompts_of_kinds(self, splits: PictureSplits) -> dict[str, list[Prompt]]:
        """`prompt_kind_items` (at least 1) prompts of each kind that these data have."""
        return {}

    def metrics_of_kinds(self) -> dict[str, list[ImageMetric]]:
        """The metrics of each kind that these data have."""
        return {}

    def all_metrics(self) -> Mapping[str, Metric]:
        if not self.prompt_kind_items:
            return self.metrics
        from tasks.diffusion.evaluation.metrics.of_kind import of_kinds

        return declare(*self.metrics.values(), *of_kinds(self.metrics_of_kinds()))

    def kind_sets(self) -> tuple[int, ...]:
        """The number of pictures of each kind."""
        return (self.prompt_kind_items,) * len(self.metrics_of_kinds()) if self.prompt_kind_items else ()

    def sources(self) -> tuple[Sequence[tuple[str, Path | bytes]], Collection[str]]:
        """The unprocessed files of the data, or their contents, each after its picture's name; and the kinds that every
        run leaves out.
        """
        return (), ()

    def describe_data(self) -> DataReport:
        from tasks.diffusion.data.report import report_of
        from tasks.diffusion.model.bases import resolution_of

        task = self.filled()
        resolution = task.resolution or resolution_of(task.base)
        sources, always_left_out = task.sources()
        lenient = task._lenient()
        report = report_of(lenient.splits(resolution), task.base, resolution, sources)
        if lenient != task:
            report.add_stops(always_left_out)
        return report

    def _lenient(self) -> Self:
        """These settings with bad items left out, if the task has that choice."""
        policy = {"on_bad_item": "skip"} if "on_bad_item" in {f.name for f in fields(self)} else {}
        return replace(self, **policy)

    def recommended(self, adapter: str) -> dict[str, Any]:
        """Training settings that the base's card recommends for this task and method."""
        from tasks.diffusion.model.cards import recommended

        training, methods = (recommended(self.base, self.name, part) for part in ("train", "methods"))
        return training | methods.get(adapter, {})

    def load_base(self, device: torch.device) -> LoadedStableDiffusion:
        from tasks.diffusion.model.loaded_base import LoadedStableDiffusion

        task = self.filled()
        options = task.allow_pickle, task.train_text_encoder, task.base_precision
        return LoadedStableDiffusion(task.base, device, task.resolution, *options)

    def meta_model(self) -> DiffusionMetaModel:
        from tasks.diffusion.model.meta_model import DiffusionMetaModel, EvaluationShape, TrainingShape

        task = self.filled()
        training = TrainingShape(task.encode == "on-the-fly", task.train_text_encoder, task.class_pictures() > 0)
        evaluation = EvaluationShape(
            (*task.sampled_sets(), *task.kind_sets()),
            value_of(task.num_inference_steps),
            value_of(task.guidance_scale),
            task.validation_pictures(),
            task.real_pictures(),
            len(task.validation_prompts),
            task.class_pictures(),
            task.evaluation_seeds,
        )
        return DiffusionMetaModel(task.base, task.resolution, training, evaluation)

    def class_pictures(self) -> int:
        """Number of the base's own pictures of a class (prior preservation): a batch has as many as of the subject."""
        return 0

    @abstractmethod
    def sampled_sets(self) -> tuple[int, ...]:
        """The most pictures of each set that the filled task's evaluation samples: of its prompts, the base's, ..."""

    @abstractmethod
    def real_pictures(self) -> int:
        """The most pictures of the filled task's test split."""

    @abstractmethod
    def validation_pictures(self) -> int:
        """The most pictures that the filled task's validation loss is measured on; 0: it has none."""

    def filled(self) -> Self:
        """These settings with the card's values for fields that the user left out."""
        from tasks.diffusion.model.cards import task_settings

        return self._with({**self.defaults, **task_settings(self.base, self.name)})

    def settings_of_card(self) -> Mapping[str, Any]:
        from tasks.diffusion.model.cards import own_card, task_settings

        return self._for_open_fields(task_settings(self.base, self.name)) if own_card(self.base).is_file() else {}

    def on_cpu(self) -> Self:
        from tasks.diffusion.model.cards import recommended

        return self._with(recommended(self.base, self.name, "on_cpu"))

    def _with(self, values: Mapping[str, Any]) -> Self:
        """These settings with `values` for fields that are None."""
        return replace(self, **self._for_open_fields(values))

    def _for_open_fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of `values`, those for fields that are None."""
        known = {f.name for f in fields(self)}
        return {name: value for name, value in values.items() if name in known and getattr(self, name) is None}

    def check_base(self) -> None:
        from tasks.diffusion.model.bases import check_name

        check_name(self.base)

    def base_revision(self) -> str:
        from tasks.diffusion.model.bases import revision_of

        return revision_of(self.base, self.allow_pickle)

    def content_digests(self) -> Mapping[str, str]:
        """Also of the models that measure pictures, if they are the user's own folders."""
        from tasks.pretrained.revision import folder_revision

        models = {name: Path(getattr(self, name)) for name in ("features", "scorer")}
        folders = {name: folder for name, folder in models.items() if folder.is_dir()}
        return {**super().content_digests(), **{name: folder_revision(f) for name, f in folders.items()}}


def value_of(setting: Value | None) -> Value:
    """A setting of a filled task. Raises ValueError if the task was not filled."""
    if setting is None:
        raise ValueError("the task has an unresolved setting: use the task that filled() returns")
    return setting
