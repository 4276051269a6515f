"""The interface of a task: a `Task` holds settings and prepares a `PreparedTask` (backbone, data, loss, evaluation).

Importing this module imports no torch; a task imports torch and the model libraries when it prepares.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from adapters.bounds import violations
from adapters.plugins import load_plugins
from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from adapters.backbone import Backbone
    from tasks.data_report import DataReport

ENTRY_POINTS = "adapter_testbed.tasks"
PACKAGES = ("tasks.diffusion", "tasks.language")


@dataclass
class Figure:
    """A measured value with everything needed to read it.

    `low` and `high` bound a 95 % interval over the `n` items. `evaluation` has the value under each evaluation seed, in
    the order of the seeds, of which `value` is the mean; `standard_error` is then that of `value` over the items. The
    others are references, present where they apply: `base` is the untuned base measured the same way, `floor` the
    distance of real pictures to other real pictures (drawn data: of the same captions), `reconstruction` the same
    through the VAE, `ceiling` what real data reaches (pictures: through the VAE), and `shuffled` the generated pictures
    against other prompts.
    """

    value: float
    unit: str
    n: int
    extractor: str
    low: float | None = None
    high: float | None = None
    base: float | None = None
    floor: float | None = None
    reconstruction: float | None = None
    ceiling: float | None = None
    shuffled: float | None = None
    evaluation: list[float] | None = None
    standard_error: float | None = None

    def as_record(self) -> dict[str, Any]:
        """All that is known; a bound or a reference that is not a finite number is not."""
        return {name: value for name, value in asdict(self).items() if name == "value" or _is_known(value)}


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


@dataclass(frozen=True)
class Metric:
    """A measured quantity, declared once, in the module that computes it; tasks list the metrics they report.

    `needs` names the packages and programs that compute it (for example "nltk" or "java"). An `ImageMetric`'s needs
    name what an evaluation must provide instead (for example "10 pictures"). Raise `version` whenever the computation
    changes: the base's cached evaluation is keyed by it, and by the releases of what is needed. `perfect` has the
    name and the value of a model that has learned everything, where they are known (planted tasks).
    """

    name: str
    better: Literal["lower", "higher"]
    unit: str
    meaning: str
    needs: tuple[str, ...] = ()
    version: int = 1
    perfect: tuple[str, float] | None = None

    def figure(
        self, value: float, n: int, extractor: str, low: float | None = None, high: float | None = None, **more: Any
    ) -> Figure:
        """A value of this metric; `more` are the references of `Figure`, such as `ceiling`."""
        return Figure(float(value), self.unit, n, extractor, low, high, **more)

    def as_record(self) -> dict[str, str]:
        """What a run's record adds to each figure of this metric."""
        return {"unit": self.unit, "better": self.better, "meaning": self.meaning}

    def implementation(self) -> list[Any]:
        """What the value depends on besides the data: name, version, and the release of everything needed."""
        return [self.name, self.version, {need: release(need) for need in self.needs}]


def release(need: str) -> str | None:
    """The version of an installed package, "installed" for a program on the PATH, None if it is missing."""
    try:
        return version(need)
    except PackageNotFoundError:
        return "installed" if which(need) else None


def declare(*metrics: Metric) -> Mapping[str, Metric]:
    """The metrics by name, in order and read-only. Raises ValueError if two share a name."""
    by_name = {metric.name: metric for metric in metrics}
    if len(by_name) < len(metrics):
        names = [metric.name for metric in metrics]
        raise ValueError(f"metrics declared twice: {sorted({name for name in names if names.count(name) > 1})}")
    return MappingProxyType(by_name)


@dataclass
class Evaluation:
    """Figures by the name of their metric, one row per evaluated item, and why other metrics were not measured.

    Each row is a flat mapping of column to value. Its "item" column is the same in all runs with the same evaluation
    settings, so that runs can be compared item by item.
    """

    figures: dict[str, Figure]
    items: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, torch.Tensor] = field(default_factory=dict)  # for `finish`: compared with the base's
    not_measured: dict[str, str] = field(default_factory=dict)  # reason by metric
    measured: Mapping[str, Any] = field(default_factory=dict)  # of a stored one: when, on which machine and versions

    def undefined(self) -> list[str]:
        """Metrics whose value is not a finite number: a record cannot hold them."""
        return [name for name, figure in self.figures.items() if not math.isfinite(figure.value)]


@dataclass(frozen=True)
class Task(ABC):
    """Settings of one fine-tuning task. A subclass is a frozen dataclass; its docstring is its page in `--help`.

    `class Pokemon(Task, name="sd-pokemon")` registers it. Raises ValueError if another class has the name.
    """

    name: ClassVar[str]
    other_names: ClassVar[tuple[str, ...]] = ()  # what people type for `name`; suggested in the error
    option_hints: ClassVar[Mapping[str, str]] = MappingProxyType({})  # option of another tool: what to use here
    metrics: ClassVar[Mapping[str, Metric]] = MappingProxyType({})
    primary_metric: ClassVar[str]  # tables sort and studies select by it
    generates: ClassVar[Literal["pictures", "texts"] | None] = None  # what a trained model makes of a prompt
    data_size_field: ClassVar[str | None] = None  # the field that sets the number of training items
    input_size_field: ClassVar[str | None] = None  # the field that sets an item's size: resolution, max_length
    evaluation_settings: ClassVar[tuple[str, ...]] = ()  # fields that change the evaluation and nothing of the training
    _registry: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls, name: str, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        known = Task._registry.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two tasks are called '{name}': {known.__module__} and {cls.__module__}")
        cls.name = name
        Task._registry[name] = cls

    @property
    def samples_in_training(self) -> bool:
        """Whether training writes samples, which `evaluation_settings` change."""
        return False

    def training_alone(self) -> Task:
        """This task with the defaults of its `evaluation_settings`: tasks with the same training are equal."""
        default: Any = type(self)()
        same: Any = {name: getattr(default, name) for name in self.evaluation_settings}
        return replace(self, **same)

    def recommended(self, adapter: str) -> dict[str, Any]:
        """Training settings (fields of `experiments.config.Train`) that the base's card recommends for a method.

        Used where the user sets none. Reads the card only; loads no model.
        """
        return {}

    def searched_rate(self, adapter: str, size: int | None, settings: Mapping[str, Any]) -> tuple[float, str] | None:
        """The learning rate that a search on the base found for a method of this size; None without a search.

        With it, how it was found: by a "search" of this size, "interpolated" between two, or of the "nearest" one.

        `settings` are those of the method that are not at their defaults. The rate is used where the user sets none.
        """
        return None

    def data_size(self) -> int | None:
        """The number of training items that `data_size_field` sets; None if these data are used in full."""
        return None

    def on_cpu(self) -> Self:
        """These settings for a run on a CPU: a card may recommend fewer items where a GPU's number would take days."""
        return self

    def settings_of_card(self) -> Mapping[str, Any]:
        """Of the settings that the user left out, those that the base's own card decides; they identify a run."""
        return {}

    def check_settings(self) -> None:
        """Raise TaskError for settings that cannot work: all that can be checked without the data and the base.

        Numbers have their bounds where they are declared (`adapters.bounds.bounded`). A task that checks more extends
        this.
        """
        if wrong := violations(self, "task"):
            raise TaskError(wrong)

    def check_base(self) -> None:  # noqa: B027  (a task need not have a base with a name)
        """Raise TaskError at once for a base that does not exist by its name; nothing is read or downloaded."""

    def content_digests(self) -> Mapping[str, str]:
        """Digests of what settings name, by setting ("base", "data", ...): content, not paths, identifies a run.

        Reads files (large ones once, until they change) and loads no model. A setting is left out if its value alone
        identifies the content, as for data that this package draws. Raises TaskError if something is not available.
        """
        return {}

    def describe_data(self) -> DataReport:
        """Read the data as a run would and say what is found; loads no model, in seconds.

        Raises TaskError if the data cannot be read at all, or if the task does not support this.
        """
        raise TaskError(f"the task {self.name} cannot describe its data: it defines no describe_data")

    def all_metrics(self) -> Mapping[str, Metric]:
        """The metrics that a run may report, by name: `metrics`, and any that a setting adds.

        Raises TaskError if one that a setting names cannot be loaded.
        """
        return self.metrics

    @abstractmethod
    def prepare(self, device: torch.device) -> PreparedTask:
        """Load the base and the data. Raises TaskError if either is not available."""

    def meta_model(self) -> MetaModel:
        """Shapes from configuration files alone: no weights, no data, no memory.

        Raises TaskError if the base has no configuration or the task does not support planning.
        """
        raise TaskError(f"the task {self.name} does not support planning: it defines no meta_model")

    def load_base(self, device: torch.device) -> LoadedBase:
        """Load the base without its dataset, to attach a trained adapter to it.

        Raises TaskError if the base is not available or the task does not support this.
        """
        raise TaskError(f"the task {self.name} cannot load its base without its data: it defines no load_base")


class LoadedBase(ABC):
    """A base without data, for using a trained adapter: sample, generate, export.

    `sampling` holds the default settings for pictures and `generation` those for texts; empty if the base produces
    none.
    """

    backbone: Backbone
    revision: str  # digest or commit of the base's files, as in a run's facts
    sampling: Mapping[str, Any] = MappingProxyType({})
    generation: Mapping[str, Any] = MappingProxyType({})

    def reserve_positions(self, count: int) -> None:  # noqa: B027  (pictures have no positions)
        """Leave `count` of a language model's positions to the method that is attached."""

    def is_revision(self, recorded: str) -> bool:
        """Whether a record's `base_revision` names these files; override it to accept earlier releases' digests."""
        return recorded == self.revision

    def sample(
        self, prompts: Sequence[str], seed: int, num_inference_steps: int, guidance_scale: float
    ) -> torch.Tensor:
        """One picture per prompt, uint8 (n, 3, height, width); picture i starts from the noise of (seed, i).

        Raises TaskError if the base is not a text-to-image model.
        """
        raise TaskError("this base generates no pictures: use python -m experiments.generate for its texts")

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        """One text per prompt; `settings` override those in `generation`.

        Raises TaskError if the base is not a language model or the task cannot parse a prompt.
        """
        raise TaskError("this base generates no texts: use python -m experiments.sample for its pictures")

    def pipeline(self) -> Any:
        """A diffusers pipeline over the loaded parts. Raises TaskError if the base is not a diffusion model."""
        raise TaskError("this base has no diffusers pipeline: use its model and tokenizer")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of a language model. Raises TaskError if the base is a diffusion model."""
        raise TaskError("a diffusion model samples through its pipeline: use pipeline()")

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the whole model in its library's layout; the folder can be used as the task's base."""


When = Literal["set-up", "training", "evaluation"]


@dataclass(frozen=True)
class EvaluationCall:
    """A call to the models without gradients, at its largest shapes; `run` makes it once.

    It is made with tensors without values too, on the meta device: `run` neither reads values nor moves the results.

    `when` it is made: in the set-up, before the adapter is attached; in training, between two steps and beside the
    optimizer's state; in the evaluation of the tuned model. `count` is how often, an evaluation makes it so often for
    each of `seeds`. All of `MetaModel.evaluation_models` are on the device in the set-up and the evaluation; in
    training, `models` of them are, by name.
    """

    name: str
    run: Callable[[], Any]
    count: int = 1
    when: tuple[When, ...] = ("evaluation",)
    models: tuple[str, ...] = ()
    seeds: int = 1


class MetaModel(ABC):
    """Input to cost prediction: a backbone on the meta device, the real loss, and batches of real shapes."""

    backbone: Backbone
    frozen: Mapping[str, Any]  # the other models on the device during training, by name
    evaluation_models: Mapping[str, Any] = MappingProxyType({})  # and those that an evaluation needs
    facts: dict[str, Any]  # the shapes that a plan reports: base, resolution or maximum length
    notes: tuple[str, ...] = ()  # assumptions that a reader of the plan should know
    scales_with_batch: bool = False  # whether a step of any batch has the same tensors, with another first dimension
    fragmentation: float = 0.05  # memory that CUDA's allocator holds and cannot use, as a share of the peak

    @abstractmethod
    def batch(self, size: int, device: torch.device) -> Any:
        """A training batch of `size` items with the largest shapes that occur; contents are arbitrary."""

    @abstractmethod
    def loss(self, batch: Any) -> torch.Tensor:
        """The task's training loss, a scalar."""

    def reserve_positions(self, count: int) -> None:  # noqa: B027  (pictures have no positions)
        """Leave `count` of a language model's positions to the method, as the prepared task does."""

    def evaluation(self, device: torch.device) -> Sequence[EvaluationCall]:
        """The calls with the most memory besides a training step's, on whose FLOPs the expected time rests too; without
        them a plan predicts that step alone."""
        return ()

    def without_values(self) -> AbstractContextManager[Any]:
        """A context in which the model runs although its tensors have no values."""
        return nullcontext()


class PreparedTask(ABC):
    """A task ready to train: model loaded, frozen parts computed."""

    backbone: Backbone
    train_items: int | None = None  # items per epoch, if the task has epochs
    has_validation: bool = True  # data with few items may have none for validation
    facts: dict[str, Any]  # for the record: revisions, counts, skipped items

    @abstractmethod
    def batches(self, seed: int, start: int, size: int) -> Iterator[Any]:
        """Endless training batches of `size` items, from the `start`-th on.

        Batch k holds the items at positions k*size to (k+1)*size of the seed's order, and all randomness of an item is
        drawn from (seed, position). One batch of 8 therefore holds what two of 4 hold, whether one process takes both
        (gradient accumulation) or two processes take one each. On a GPU a thread draws the coming steps' batches, which
        are best left on the CPU.
        """

    @abstractmethod
    def loss(self, batch: Any) -> torch.Tensor:
        """The training loss of one batch, a scalar."""

    def reserve_positions(self, count: int) -> None:  # noqa: B027  (pictures have no positions)
        """Leave `count` of a language model's positions to the method: items that no longer fit are left out.

        Called before anything is measured, so that the untuned base is measured on the same items. Raises TaskError if
        no item fits.
        """

    def weight(self, batch: Any) -> float:
        """Denominator of the mean loss if it differs between batches of one size (number of target tokens)."""
        return 1

    def tokens(self, batch: Any) -> int | None:
        """Text tokens that the model reads in a training batch, padding excluded; None if it reads no text."""
        return None

    @abstractmethod
    def validation_loss(self) -> float:
        """The loss on the validation items, with the same noise every time. Not called without `has_validation`."""

    @abstractmethod
    def evaluate(self, output: Path | None = None) -> Evaluation:
        """Measure the model in its current state; write pictures or texts below `output`, if given."""

    def evaluate_part(self, share: float) -> Evaluation:
        """Measure the model in its current state on `share` of the items, always the same ones, between two steps.

        Override it: without a definition of its own, a task measures all of them. See `tasks.fixed_part`.
        """
        return self.evaluate()

    def illustrate(self, output: Path, step: int) -> list[Path]:
        """Write examples of what the model generates at this training step below `output`; return the files."""
        return []

    @property
    @abstractmethod
    def evaluation_key(self) -> Any:
        """Everything that `evaluate` reads, as a JSON value: the base's evaluation is cached under it.

        That is all files of the base, every evaluated item (validation too), the settings of generation, and
        `Metric.implementation()` of the task's metrics.
        """

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        """Add what needs both evaluations (drift, a before/after grid), and `base` to every figure."""
        for name, figure in tuned.figures.items():
            if name in base.figures and figure.base is None:
                figure.base = base.figures[name].value
        return tuned


def task_registry() -> Mapping[str, type[Task]]:
    """All tasks by name: those of this package, then those that other packages add through entry points."""
    _load_tasks()
    return dict(Task._registry)


@cache
def _load_tasks() -> None:
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        # each package lists its task modules in TASKS, so that --help imports no model library
        for module in getattr(package, "TASKS", ()):
            importlib.import_module(f"{package_name}.{module}")
    load_plugins(ENTRY_POINTS, "task", Task._registry)
