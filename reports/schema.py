"""The schema of `result.json` as types, against which msgspec checks every record.

`experiments.records.folder` writes the file. Unknown keys are ignored, so a later version may add some. Structs named
`...Record` are parts of a file; the classes that produce them are in `experiments` and `tasks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from reports.upgrade import SCHEMA

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=0, lt=2**62)]
Amount = Annotated[float, Meta(ge=0, lt=1e12)]  # seconds, unless a field documents another unit

REFERENCES = ("base", "floor", "reconstruction", "ceiling", "shuffled")  # values to compare a figure with
# peft's name of an option that is a method's size: our name; the first with a positive number counts
PEFT_SIZES = {
    "target_r": "rank",
    "r": "rank",
    "num_virtual_tokens": "length",
    "adapter_len": "length",
    "n_frequency": "frequencies",
}


def size_option(options: Mapping[str, Any]) -> str | None:
    """The name of the option of peft that is the size; None if no size is given."""
    given = {name: options.get(name) for name in PEFT_SIZES}
    return next((name for name, value in given.items() if type(value) is int and 0 < value < 2**53), None)


class FigureRecord(msgspec.Struct, frozen=True):
    """A measured figure, how it was measured, and the reference values it is compared with."""

    value: float
    unit: str = ""
    n: Count | None = None  # evaluated items
    extractor: str = ""
    low: float | None = None  # 95 % interval over the items
    high: float | None = None
    base: float | None = None
    floor: float | None = None
    reconstruction: float | None = None
    ceiling: float | None = None
    shuffled: float | None = None
    evaluation: list[float] | None = None  # under each evaluation seed, in order of the seeds; `value` is their mean
    standard_error: Amount | None = None  # of `value` over the items, with several evaluation seeds
    better: Literal["lower", "higher"] = "higher"
    meaning: str = ""

    def __post_init__(self) -> None:
        numbers = [(name, getattr(self, name)) for name in ("value", "low", "high", *REFERENCES)]
        numbers += [("evaluation", number) for number in self.evaluation or ()]
        for name, number in numbers:
            if number is not None and not math.isfinite(number):
                raise ValueError(f"'{name}' is {number}, expected a finite number")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The values that are possible, if the unit says so: a share lies between 0 and 1."""
        return (0.0, 1.0) if self.unit == "share" else None


class Size(msgspec.Struct, frozen=True):
    """The setting that scales a method, such as its rank."""

    field: Name
    value: Annotated[float, Meta(gt=0, lt=1e12)]


class Config(msgspec.Struct, frozen=True):
    adapter: dict[str, Any] = {}
    task: dict[str, Any] = {}
    train: dict[str, Any] = {}

    @property
    def peft_options(self) -> dict[str, Any] | None:
        """The options of a method of peft; None for other methods, and for a damaged record."""
        options = self.adapter.get("options") if self.adapter.get("name") == "peft" else None
        return options if isinstance(options, dict) else None


class ParametersRecord(msgspec.Struct, frozen=True):
    trainable: Count
    total: Count | None = None


class SecondsRecord(msgspec.Struct, frozen=True):
    setup: Amount | None = None
    train: Amount | None = None  # steps, validation and checkpoints
    curve: Amount | None = None  # evaluations during training (--train.evaluate-every), which `train` leaves out
    evaluate: Amount | None = None
    step_median: Amount | None = None
    total: Amount | None = None  # for sources that do not record the phases

    @property
    def whole(self) -> float | None:
        """Duration of the run: as recorded, else the sum of its phases if all are known."""
        phases = (self.setup, self.train, self.evaluate)
        known = None if None in phases else sum(phase for phase in (*phases, self.curve) if phase)
        return known if self.total is None else self.total


class PhaseMemoryRecord(msgspec.Struct, frozen=True):
    """Peak of one phase; on CUDA also what the allocator had reserved for it."""

    peak_bytes: Count
    how: str = ""
    reserved_bytes: Count | None = None


class MemoryRecord(msgspec.Struct, frozen=True):
    peak_bytes: Count | None = None  # of training; none without training
    how: str = ""
    reserved_bytes: Count | None = None
    evaluation: PhaseMemoryRecord | None = None
    categories: dict[Name, Count] | None = None  # bytes of each category at the peak of the first steps
    categories_how: str = ""


class FlopsRecord(msgspec.Struct, frozen=True):
    """Floating-point operations per optimizer step."""

    forward: Count
    backward: Count
    optimizer: Count
    total: Count
    how: str = ""


class PeakRecord(msgspec.Struct, frozen=True):
    """Rate of the fastest matrix product measured on the machine."""

    flops_per_second: Annotated[float, Meta(gt=0, lt=1e24)]
    how: str = ""


class ThroughputRecord(msgspec.Struct, frozen=True):
    """Median seconds per optimizer step over `n` steps, the quartiles, and the rates that follow from the median."""

    step_seconds: Amount
    low: Amount
    high: Amount
    n: Count
    samples_per_second: Amount
    tokens_per_second: Amount | None
    share_of_peak: Amount
    peak: PeakRecord


class CommunicationRecord(msgspec.Struct, frozen=True):
    """Bytes of gradients that one process sends to the all-reduce of one optimizer step."""

    predicted_bytes: Count
    measured_bytes: Amount | None = None
    processes: Count | None = None
    how: str = ""


class GitRecord(msgspec.Struct, frozen=True):
    commit: str | None = None
    dirty: bool | None = None


class TrialRecord(msgspec.Struct, frozen=True):
    """One learning rate of a search; a trial whose training failed has no loss."""

    learning_rate: Annotated[float, Meta(gt=0, lt=1e3)]
    validation_loss: float | None = None
    failure: str | None = None


class SearchRecord(msgspec.Struct, frozen=True):
    """How the learning rate of a run was chosen; `experiments.sweeping.learning_rates` writes it."""

    chosen: Annotated[float, Meta(gt=0, lt=1e3)]
    trials: list[TrialRecord]
    steps: Count  # per trial
    share: float  # trial steps as a share of the run's steps
    factor: float  # ratio of neighbouring rates
    seed: int = 0
    edge: Literal["lowest", "highest"] | None = None  # the end of the grid that won: a better rate may lie beyond it
    chosen_by: str = ""


class MethodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind of record contains about one method on one task."""

    schema: int
    task: Name
    method: Name
    fingerprint: Name
    size: Size | None = None
    config: Config = Config()
    parameters: ParametersRecord | None = None
    adapter_bytes: Count | None = None
    memory: MemoryRecord | None = None
    flops: FlopsRecord | None = None
    throughput: ThroughputRecord | None = None
    communication: CommunicationRecord | None = None
    facts: dict[str, Any] = {}
    base_evaluation: dict[str, Any] = {}  # when, where and with which versions the untuned base was measured
    content: dict[str, Any] = {}  # digests of the files that the settings name, by part of the configuration
    versions: dict[str, Any] = {}
    device: str | None = None
    host: dict[str, Any] = {}
    git: GitRecord | None = None

    def __post_init__(self) -> None:
        """Check the schema, and take the size of a method of peft from its options."""
        check_schema(self.schema)
        options = self.config.peft_options or {}
        if self.size is None and (name := size_option(options)):
            msgspec.structs.force_setattr(self, "size", Size(PEFT_SIZES[name], options[name]))


class Record(MethodRecord, frozen=True, kw_only=True):
    """`result.json` of one run."""

    status: Literal["finished", "failed"]
    seed: Annotated[int, Meta(ge=-(2**62), lt=2**62)]
    reason: str | None = None
    source: Name = "run"
    primary_metric: str | None = None
    metrics: dict[Name, FigureRecord] = {}
    base_figures: dict[Name, FigureRecord] = {}  # the untuned base's, of a run that failed after they were measured
    seconds: SecondsRecord = SecondsRecord()
    search: SearchRecord | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status == "finished" and not self.metrics:
            raise ValueError("the run finished without any finite figure: run it again, with a lower learning rate")
        if self.status == "finished" and self.primary_metric not in self.metrics:
            raise ValueError(
                f"the primary metric '{self.primary_metric}' is not among the metrics {sorted(self.metrics)}"
            )


def check_schema(schema: int) -> None:
    """Raises ValueError for a schema that this version does not know, which is usually a newer one."""
    if schema != SCHEMA:
        raise ValueError(f"schema version {schema} is unknown, expected 1 to {SCHEMA}: use the release that wrote it")
