"""A look at a language task's data as a run would read them: `python -m tasks check e2e --task.data FILE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.bad_items import left_out_line, numbered
from tasks.data_report import DataReport, counts_line, lengths_line
from tasks.duplicates import duplicates_line
from tasks.errors import TaskError
from tasks.language.data.e2e_data import MeaningSplits
from tasks.language.data.meanings import Item
from tasks.language.data.rows import (
    fitting_items,
    prompt_fits,
    prompt_ids,
    reference_rows,
    row_fits,
    row_length,
    rows_by_part,
)
from tasks.language.data.style_data import TextSplits
from tasks.language.metrics.slot_patterns import SLOTS
from tasks.language.model.bases import LanguageModel
from tasks.language.model.meta_model import load_without_weights


def report_of_meanings(splits: MeaningSplits, base: str) -> DataReport:
    report = DataReport(left_out=splits.facts.get("left_out", {}))
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    report.lines["data"] = splits.source
    counts = [f"{name} {len(items)} with {numbered(_references(items), 'text')}" for name, items in parts.items()]
    report.lines["meanings"] = ", ".join(counts)
    report.lines["left out"] = left_out_line(splits.facts)
    report.lines["slots"] = _slots_line([item for items in parts.values() for item in items])
    report.lines |= _length_lines(splits, base, report)
    report.lines["duplicates"] = duplicates_line(splits.facts, "the same meanings or texts")
    return report


def report_of_text(splits: TextSplits, base: str, max_length: int) -> DataReport:
    report = DataReport(left_out=splits.facts.get("left_out", {}))
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    report.lines["data"] = splits.source
    report.lines["parts"] = ", ".join(
        f"{name} {len(texts)} ({sum(map(len, texts)):,} characters)" for name, texts in parts.items()
    )
    report.lines["tokens"] = _counted(base, lambda model: _part_lengths(model, splits, max_length))
    report.lines["left out"] = left_out_line(splits.facts)
    report.lines["duplicates"] = duplicates_line(splits.facts, "the same parts")
    return report


def _references(items: Sequence[Item]) -> int:
    return sum(len(item.references) for item in items)


def _slots_line(items: Sequence[Item]) -> str:
    """The slots of the meanings by how often they occur, and those that the slot metrics do not know."""
    slots = [slot for item in items for slot in item.meaning]
    unknown = sorted(set(slots) - set(SLOTS))
    measured = "all are measured" if not unknown else f"not measured: {', '.join(unknown)}"
    return f"{counts_line(slots)}; {measured}" if slots else "none"


def _length_lines(splits: MeaningSplits, base: str, report: DataReport) -> dict[str, str]:
    """Lengths of meanings and texts, and all that is left out; a fault if nothing is left."""
    try:
        model = load_without_weights(base)
    except TaskError as missing:
        return {"tokens": f"unknown: {missing}"}
    fitting = fitting_items(model, splits)
    try:
        fitting.require_items(model, splits)
    except TaskError as refusal:
        report.faults.append(str(refusal))
    too_long = {
        "left_out": {kind: len(lines) for kind, lines in fitting.left_out.items()},
        "left_out_items": fitting.left_out,
    }
    counted = [left_out_line(facts) for facts in (splits.facts, too_long) if facts.get("left_out")]
    return {
        "left out": "; ".join(counted) or left_out_line({}),
        "tokens": _row_lengths(model, [*splits.train, *splits.validation]),
        "prompts": _prompt_lengths(model, splits.test),
    }


def _counted(base: str, line: Callable[[LanguageModel], str]) -> str:
    try:
        return line(load_without_weights(base))
    except TaskError as missing:
        return f"unknown: {missing}"


def _row_lengths(model: LanguageModel, items: Sequence[Item]) -> str:
    rows = reference_rows(model, items)
    meanings = [item.line for item in items for _ in item.references]
    lengths = [len(prompt) + len(text) for prompt, text in rows]
    over = [meaning for meaning, row in zip(meanings, rows, strict=True) if not row_fits(model, row)]
    return lengths_line(lengths, "tokens in a meaning with its text", model.positions, over, "left out")


def _prompt_lengths(model: LanguageModel, items: Sequence[Item]) -> str:
    lengths = [len(prompt_ids(model, item)) for item in items]
    over = [item.line for item in items if not prompt_fits(model, item)]
    return lengths_line(lengths, "tokens in a test meaning", model.positions - 1, over, "left out")


def _part_lengths(model: LanguageModel, splits: TextSplits, max_length: int) -> str:
    length = row_length(model, max_length)
    rows = [row for rows in rows_by_part(model, splits.train, length) for row in rows]
    tokens = sum(len(text) for _, text in rows) + len(splits.train)  # with each part's start token
    return f"{tokens:,} in training, in {len(rows)} rows of at most {length}; the model reads {model.positions}"
