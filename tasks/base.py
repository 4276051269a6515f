"""What every task is: a `Task` (its settings) that prepares a `PreparedTask` (backbone, data, loss, evaluation).

Importing this package imports no torch; a task imports torch and the model libraries where it prepares.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from adapters.backbone import Backbone

ENTRY_POINTS = "adapter_testbed.tasks"
PACKAGES = ("tasks.diffusion", "tasks.language")


@dataclass(frozen=True)
class Metric:
    """A measured quantity, declared once, in the module that computes it; tasks list the metrics they report.

    `needs` names what a machine must provide for it (for example "java"); without it the figure is left out. Raise
    `version` whenever the computation changes: cached figures of the base are keyed by it.
    """

    name: str
    better: Literal["lower", "higher"]
    unit: str
    meaning: str
    needs: tuple[str, ...] = ()
    version: int = 1

    def as_record(self) -> dict[str, str]:
        """What a run's record adds to each figure of this metric."""
        return {"unit": self.unit, "better": self.better, "meaning": self.meaning}


def declare(*metrics: Metric) -> Mapping[str, Metric]:
    """The metrics by name, in order and read-only. Raises ValueError if two share a name."""
    by_name = {metric.name: metric for metric in metrics}
    if len(by_name) < len(metrics):
        names = [metric.name for metric in metrics]
        raise ValueError(f"metrics declared twice: {sorted({name for name in names if names.count(name) > 1})}")
    return MappingProxyType(by_name)


@dataclass
class Figure:
    """One measured figure with all that it must travel with.

    `low` and `high` bound a 95 % interval over the `n` items. `base` is the untuned base measured the same way,
    `floor` real data against real data of the same sizes, `reconstruction` real pictures through the VAE,
    `ceiling` what real data reaches and `shuffled` what data with shuffled captions reaches, each where it applies.
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

    def as_record(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class Evaluation:
    """`figures` by name (the task's `metrics` say their direction), and one row an evaluated item in `items`.

    Each item is a flat mapping of column to value with an "item" column that is the same over all runs that share
    the evaluation's settings, so that two runs can be compared item by item.
    """

    figures: dict[str, Figure]
    items: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, torch.Tensor] = field(default_factory=dict)  # what `finish` compares with the base's own


@dataclass(frozen=True)
class Task(ABC):
    """One thing to learn. A subclass is a frozen dataclass whose fields are its settings, its docstring its help.

    `class Pokemon(Task, name="sd-pokemon")` registers it; a second class of one name is an error.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]] = MappingProxyType({})
    input_size_field: ClassVar[str | None] = None  # the field that sets an item's size: resolution, length
    primary_metric: ClassVar[str]  # the metric that a table sorts by and a study chooses by
    _registry: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls, name: str, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        known = Task._registry.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two tasks are called '{name}': {known.__module__} and {cls.__module__}")
        cls.name = name
        Task._registry[name] = cls

    def recommended(self, adapter: str) -> dict[str, Any]:
        """Training settings (fields of `experiments.config.Train`) that this task's base recommends for a method.

        They stand where the user gave none; cheap, without loading a model.
        """
        return {}

    def on_cpu(self) -> Self:
        """The same as a run on a CPU takes it: the base's card may ask for less where a GPU's amount takes days."""
        return self

    @abstractmethod
    def prepare(self, device: torch.device) -> PreparedTask:
        """Load the base and the data. Raises TaskError where either cannot be had."""

    def meta_model(self) -> MetaModel:
        """The task's shapes from configuration alone: no weights, no data, nothing allocated.

        Raises TaskError where the base has no configuration, or the task cannot be planned so.
        """
        raise TaskError(f"the task {self.name} cannot be planned: it makes no meta_model")

    def load_base(self, device: torch.device) -> LoadedBase:
        """The base alone, without the data: what a finished run's adapter is put on again.

        Raises TaskError where the base cannot be had, or the task does not offer this.
        """
        raise TaskError(f"the task {self.name} does not open its base without its data")


class LoadedBase(ABC):
    """A base without data, for what people do with a trained adapter: look, read, export.

    `sampling` are the base's card's settings for pictures, `generation` the task's for texts; each is empty where
    the base makes none.
    """

    backbone: Backbone
    revision: str  # of the weights, as a run's facts have it
    sampling: Mapping[str, Any] = {}
    generation: Mapping[str, Any] = {}

    def sample(
        self, prompts: Sequence[str], seed: int, num_inference_steps: int, guidance_scale: float
    ) -> torch.Tensor:
        """One picture a prompt by the model as it is now, uint8 (n, 3, height, width); picture i starts from noise
        (seed, i). Raises TaskError where the base makes no pictures."""
        raise TaskError("this base makes no pictures: read its texts with python -m experiments.generate")

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        """One text a prompt by the model as it is now, with settings named as in `generation`.

        Raises TaskError where the base writes no texts, or for a prompt that the task cannot read.
        """
        raise TaskError("this base writes no texts: look at its pictures with python -m experiments.sample")

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the whole model as it is now, in its library's layout, so that the task's base can be this folder."""


class MetaModel(ABC):
    """What costs are predicted from: a backbone on the meta device, the real loss, batches of real shapes."""

    backbone: Backbone
    frozen: Mapping[str, Any]  # the other models, by name, that the task keeps on the device while it trains
    facts: dict[str, Any]  # what a plan says of the shapes: base, resolution or length
    notes: tuple[str, ...] = ()  # what a reader must know of them

    @abstractmethod
    def batch(self, size: int, device: torch.device) -> Any:
        """A training batch of the largest shapes that a real one of `size` items has; its values mean nothing."""

    @abstractmethod
    def loss(self, batch: Any) -> torch.Tensor:
        """The task's training loss, a scalar."""


class PreparedTask(ABC):
    """A task ready to train: model loaded, frozen parts computed once."""

    backbone: Backbone
    train_items: int | None = None  # how many make an epoch, where the task has epochs
    facts: dict[str, Any]  # what the record says of model and data: revisions, counts, what was left out

    @abstractmethod
    def batches(self, seed: int, start: int, size: int) -> Iterator[Any]:
        """Endless training batches of `size` items: the `start`-th and those after it.

        Batch k holds the items at the places k*size to (k+1)*size of the seed's endless order, and all randomness of
        an item is drawn from (seed, place): so one batch of 8 holds what two of 4 hold, whether one process takes
        them one after the other (gradient accumulation) or two processes take one each.
        """

    @abstractmethod
    def loss(self, batch: Any) -> torch.Tensor:
        """The training loss of one batch, a scalar."""

    def weight(self, batch: Any) -> float:
        """How many things the mean in `loss` is taken over, where batches of one size differ in it (tokens)."""
        return 1

    def tokens(self, batch: Any) -> int | None:
        """How many tokens of text the model reads in a training batch, without padding; None where it reads none."""
        return None

    @abstractmethod
    def validation_loss(self) -> float:
        """The loss on items kept from training, with the same noise each time."""

    @abstractmethod
    def evaluate(self, output: Path | None = None) -> Evaluation:
        """Measure the model as it is now; pictures or texts for people go below `output`."""

    def illustrate(self, output: Path, step: int) -> list[Path]:
        """Write below `output` what the model makes at this step of training, for people; the files written."""
        return []

    @property
    @abstractmethod
    def evaluation_key(self) -> str:
        """Names base, data and evaluation settings: the untuned base's figures are cached under it."""

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None = None) -> Evaluation:
        """Add what needs both evaluations (drift, a grid of before and after); every figure gets its `base`."""
        for name, figure in tuned.figures.items():
            if name in base.figures and figure.base is None:
                figure.base = base.figures[name].value
        return tuned


@cache
def registry() -> Mapping[str, type[Task]]:
    """All tasks by name: the files of this package, then what other packages add through entry points."""
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        # a package says in TASKS which of its files hold tasks, so that --help imports no model library
        for module in getattr(package, "TASKS", ()):
            importlib.import_module(f"{package_name}.{module}")
    for entry_point in entry_points(group=ENTRY_POINTS):
        entry_point.load()
    return dict(Task._registry)
