"""`costs.json`, which `experiments.costs` writes for each method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from reports.records import first_line, inside, load_record
from reports.schema import Amount, Count, MethodRecord
from reports.shipping.archive import unpacked

FILE = "costs.json"


class RatioRecord(msgspec.Struct, frozen=True):
    """Median over `n` interleaved rounds, with the 95 % interval of the sign test."""

    median: Amount
    low: Amount
    high: Amount
    n: Count


class InferenceRecord(msgspec.Struct, frozen=True):
    """One forward pass; ratios are to the base model. None means that the method has no such form."""

    items: Count
    base_seconds: Amount
    unmerged_seconds: Amount
    merged_seconds: Amount | None
    control: RatioRecord
    unmerged: RatioRecord
    merged: RatioRecord | None
    largest_difference: Amount | None
    relative_difference: Amount | None


class SwitchRecord(msgspec.Struct, frozen=True):
    """Switching to another adapter: bytes, and seconds (median and quartiles)."""

    bytes: Count
    seconds: Amount
    low: Amount
    high: Amount
    n: Count


class MixedBatchRecord(msgspec.Struct, frozen=True):
    """A batch whose items use different adapters; ratios are to a batch with one adapter.

    `ratio` is None if the method does not support mixed batches.
    """

    items: Annotated[int, Meta(ge=1)]
    adapters: Annotated[int, Meta(ge=1)]
    seconds: Amount | None
    ratio: RatioRecord | None
    one_by_one_seconds: Amount
    one_by_one: RatioRecord


class CostRecord(MethodRecord, frozen=True, kw_only=True):
    """The whole of `costs.json`."""

    inference: InferenceRecord
    switch: SwitchRecord
    mixed_batch: MixedBatchRecord


def read_cost_records(folder: Path) -> tuple[list[CostRecord], list[tuple[Path, str]]]:
    """All cost records below `folder` or in its archives, and the files that cannot be read, each with the reason."""
    records, unreadable = [], []
    for path in _cost_files(unpacked(folder)):
        try:
            records.append(load_record(path, CostRecord))
        except (OSError, ValueError) as error:
            unreadable.append((path, f"not a cost record: {first_line(error)}"))
    return records, unreadable


def _cost_files(folder: Path) -> Iterator[Path]:
    """The cost files inside the folder; a link may lead out of it."""
    return (path for path in sorted(folder.glob(f"*/*/*/{FILE}")) if inside(folder, path) is not None)
