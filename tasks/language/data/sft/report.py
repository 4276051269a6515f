"""A look at the sft task's data as a run would read them: `python -m tasks check sft --task.data FILE`."""

from __future__ import annotations

from tasks.bad_items import left_out_line
from tasks.data_report import DataReport, counts_line, lengths_line
from tasks.duplicates import duplicates_line
from tasks.errors import TaskError
from tasks.language.data.kept_apart import always_left_out
from tasks.language.data.sft.conversation_data import BEYOND_TRAIN, ConversationSplits
from tasks.language.data.sft.conversations import Conversation
from tasks.language.model.chat import completion_rows
from tasks.language.model.likelihood import row_size
from tasks.language.model.meta_model import load_without_weights


def report_of_conversations(splits: ConversationSplits, base: str, max_length: int, stops: bool) -> DataReport:
    """`stops` is whether a run stops at rows that cannot be used."""
    report = DataReport(left_out=splits.facts.get("left_out", {}))
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    report.lines["data"] = splits.source
    report.lines["conversations"] = ", ".join(f"{name} {len(items)}" for name, items in parts.items())
    everything = [item for items in parts.values() for item in items]
    report.lines["forms"] = counts_line(_form(item) for item in everything)
    report.lines["tokens"] = _length_line(everything, base, max_length, report)
    report.lines["left out"] = left_out_line(splits.facts)
    report.lines["duplicates"] = duplicates_line(splits.facts, "the same prompts")
    if stops:
        report.add_stops({*always_left_out("conversations"), BEYOND_TRAIN})
    return report


def _form(item: Conversation) -> str:
    if not item.is_chat:
        return "prompt and completion"
    turns = len(item.completions)
    return f"conversation of {turns} {'answer' if turns == 1 else 'answers'}"


def _length_line(items: list[Conversation], base: str, max_length: int, report: DataReport) -> str:
    try:
        model = load_without_weights(base)
    except TaskError as missing:
        return f"unknown: {missing}"
    limit = min(max_length, model.positions)
    try:
        lengths = [(item.place, row_size(row)) for item in items for row in completion_rows(model, item)]
    except TaskError as refusal:
        report.faults.append(str(refusal))
        return "unknown"
    over = [place for place, length in lengths if length > limit]
    unit = "tokens in a completion with all before it"
    return lengths_line([length for _, length in lengths], unit, limit, over, "left out")
