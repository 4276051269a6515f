"""What `result.json` holds, written down once as types: msgspec checks a record against them.

`experiments.records.folder` writes it. Unknown keys are ignored, so that a later writer may add some.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from reports.upgrade import SCHEMA

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=0, lt=2**62)]
Amount = Annotated[float, Meta(ge=0, lt=1e12)]  # seconds


class Figure(msgspec.Struct, frozen=True):
    """A measured figure with what it was measured with; see `tasks.base.Figure`, which writes it."""

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
    better: Literal["lower", "higher"] = "higher"
    meaning: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", *REFERENCES):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"'{name}' is {number}, expected a finite number")


REFERENCES = ("base", "floor", "reconstruction", "ceiling", "shuffled")  # what a figure may be held against


class Size(msgspec.Struct, frozen=True):
    field: Name
    value: Annotated[float, Meta(gt=0, lt=1e12)]


class Config(msgspec.Struct, frozen=True):
    adapter: dict[str, Any] = {}
    task: dict[str, Any] = {}
    train: dict[str, Any] = {}


class Parameters(msgspec.Struct, frozen=True):
    trainable: Count
    total: Count | None = None


class Seconds(msgspec.Struct, frozen=True):
    setup: Amount | None = None
    train: Amount | None = None
    evaluate: Amount | None = None
    step_median: Amount | None = None
    total: Amount | None = None  # where a source gives no parts

    @property
    def whole(self) -> float | None:
        """The whole run: as recorded, or the sum of its parts where all are known."""
        parts = (self.setup, self.train, self.evaluate)
        return self.total if self.total is not None else sum(p for p in parts if p) if None not in parts else None


class Memory(msgspec.Struct, frozen=True):
    peak_bytes: Count
    how: str = ""
    categories: dict[Name, Count] | None = None  # bytes of each at the peak of the first steps
    categories_how: str = ""


class Flops(msgspec.Struct, frozen=True):
    """Floating-point operations of one optimizer step."""

    forward: Count
    backward: Count
    optimizer: Count
    total: Count
    how: str = ""


class Peak(msgspec.Struct, frozen=True):
    """The machine's fastest matrix product."""

    flops_per_second: Annotated[float, Meta(gt=0, lt=1e24)]
    how: str = ""


class Throughput(msgspec.Struct, frozen=True):
    """Of `n` optimizer steps: median seconds and quartiles, and what the median amounts to."""

    step_seconds: Amount
    low: Amount
    high: Amount
    n: Count
    samples_per_second: Amount
    tokens_per_second: Amount | None
    share_of_peak: Amount
    peak: Peak


class Communication(msgspec.Struct, frozen=True):
    """Bytes of gradients that a process gives to the reduction of one optimizer step."""

    predicted_bytes: Count
    measured_bytes: Amount | None = None
    processes: Count | None = None
    how: str = ""


class Git(msgspec.Struct, frozen=True):
    commit: str | None = None
    dirty: bool | None = None


class Trial(msgspec.Struct, frozen=True):
    """One learning rate of a search; without a loss where its training failed."""

    learning_rate: Annotated[float, Meta(gt=0, lt=1e3)]
    validation_loss: float | None = None
    failure: str | None = None


class Search(msgspec.Struct, frozen=True):
    """How a run's learning rate was chosen; see `experiments.sweeping.learning_rates`, which writes it."""

    chosen: Annotated[float, Meta(gt=0, lt=1e3)]
    trials: list[Trial]
    steps: Count  # of a trial
    share: float  # of the run's steps
    factor: float  # between neighbouring rates
    seed: int = 0
    edge: Literal["lowest", "highest"] | None = None  # the end of the grid that won: a better rate may lie beyond
    chosen_by: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind of record says of one method on one task."""

    schema: int
    task: Name
    method: Name
    fingerprint: Name
    size: Size | None = None
    config: Config = Config()
    parameters: Parameters | None = None
    adapter_bytes: Count | None = None
    memory: Memory | None = None
    flops: Flops | None = None
    throughput: Throughput | None = None
    communication: Communication | None = None
    facts: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    device: str | None = None
    host: dict[str, Any] = {}
    git: Git | None = None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema version {self.schema}, expected {SCHEMA}: read it with the testbed that wrote it")


class Record(Measured, frozen=True, kw_only=True):
    """`result.json` as a whole."""

    status: Literal["finished", "failed"]
    seed: Annotated[int, Meta(ge=-(2**62), lt=2**62)]
    reason: str | None = None
    source: Name = "run"
    primary_metric: str | None = None
    metrics: dict[Name, Figure] = {}
    seconds: Seconds = Seconds()
    search: Search | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status == "finished" and self.primary_metric not in self.metrics:
            raise ValueError(
                f"the primary_metric '{self.primary_metric}' is not among the metrics {sorted(self.metrics)}"
            )
