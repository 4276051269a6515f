"""A look at a language task's data as a run would read them: `python -m tasks check e2e --task.data FILE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.data_report import DataReport, counts_line, left_out_line, lengths_line, shared_line
from tasks.errors import TaskError
from tasks.language.data.e2e_data import Item, MeaningSplits, prompt_of
from tasks.language.data.style_data import TextSplits
from tasks.language.metrics.slot_patterns import SLOTS
from tasks.language.model.bases import LanguageModel
from tasks.language.model.meta_model import load_without_weights


def report_of_meanings(splits: MeaningSplits, base: str) -> DataReport:
    report = DataReport(left_out=splits.facts.get("left_out", {}))
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    report.lines["data"] = splits.source
    counts = [f"{name} {len(items)} with {_references(items)} texts" for name, items in parts.items()]
    report.lines["meanings"] = ", ".join(counts)
    report.lines["left out"] = left_out_line(splits.facts)
    report.lines["slots"] = _slots_line([item for items in parts.values() for item in items])
    report.lines["tokens"] = _counted(base, lambda model: _row_lengths(model, [*splits.train, *splits.validation]))
    report.lines["prompts"] = _counted(base, lambda model: _prompt_lengths(model, splits.test))
    texts = {name: [text for item in items for text in item.references] for name, items in parts.items()}
    meanings = {name: [item.line for item in items] for name, items in parts.items()}
    shared = [shared_line(meanings, "meanings"), shared_line(texts, "texts")]
    report.lines["in training and held out"] = "; ".join(shared)
    return report


def report_of_text(splits: TextSplits, base: str, max_length: int) -> DataReport:
    report = DataReport()
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    report.lines["data"] = splits.source
    report.lines["parts"] = ", ".join(
        f"{name} {len(texts)} ({sum(map(len, texts)):,} characters)" for name, texts in parts.items()
    )
    report.lines["tokens"] = _counted(base, lambda model: _part_lengths(model, splits, max_length))
    report.lines["in training and held out"] = shared_line(parts, "parts")
    return report


def _references(items: Sequence[Item]) -> int:
    return sum(len(item.references) for item in items)


def _slots_line(items: Sequence[Item]) -> str:
    """The slots of the meanings by how often they occur, and those that the slot metrics do not know."""
    slots = [slot for item in items for slot in item.meaning]
    unknown = sorted(set(slots) - set(SLOTS))
    measured = "all are measured" if not unknown else f"not measured: {', '.join(unknown)}"
    return f"{counts_line(slots)}; {measured}" if slots else "none"


def _counted(base: str, line: Callable[[LanguageModel], str]) -> str:
    try:
        return line(load_without_weights(base))
    except TaskError as missing:
        return f"unknown: {missing}"


def _row_lengths(model: LanguageModel, items: Sequence[Item]) -> str:
    rows = [(item, text) for item in items for text in item.references]
    lengths = [len(_prompt(model, item)) + len(model.text_ids(text)) + 1 for item, text in rows]
    over = [item.line for (item, _), length in zip(rows, lengths, strict=True) if length > model.positions]
    return lengths_line(lengths, "in a meaning with its text", model.positions, over, "are left out")


def _prompt_lengths(model: LanguageModel, items: Sequence[Item]) -> str:
    lengths = [len(_prompt(model, item)) for item in items]
    over = [item.line for item, length in zip(items, lengths, strict=True) if length >= model.positions]
    return lengths_line(lengths, "tokens in a test meaning", model.positions - 1, over, "are left out")


def _prompt(model: LanguageModel, item: Item) -> list[int]:
    return model.prompt_ids(prompt_of(item.line))


def _part_lengths(model: LanguageModel, splits: TextSplits, max_length: int) -> str:
    lengths = [len(model.document_ids(part)) for part in splits.train]
    length = min(max_length, model.positions)
    rows = sum(-(-(tokens - 1) // (length - 1)) for tokens in lengths)
    return f"{sum(lengths):,} in training, in {rows} rows of at most {length}; the model reads {model.positions}"
