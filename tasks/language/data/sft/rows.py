"""The rows of tokens that the sft task makes of its conversations, and which of them fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.bad_items import MAX_NAMES
from tasks.errors import TaskError
from tasks.language.data.sft.conversation_data import ConversationSplits
from tasks.language.data.sft.conversations import Conversation
from tasks.language.model.bases import LanguageModel
from tasks.language.model.chat import completion_rows
from tasks.language.model.likelihood import Row, row_size


class ConversationRows(NamedTuple):
    """A conversation with one row per completion that fits."""

    conversation: Conversation
    rows: list[Row]


@dataclass(frozen=True)
class FittingConversations:
    """What fits a length in tokens; `left_out` has the places of what does not, by reason."""

    train: list[Row]
    validation: list[ConversationRows]
    test: list[ConversationRows]
    left_out: dict[str, list[str]]

    def named(self) -> dict[str, list[str]]:
        """The first places of each kind, for the record."""
        return {kind: places[:MAX_NAMES] for kind, places in self.left_out.items()}

    def require_items(self, splits: ConversationSplits, length: int) -> None:
        """Raise TaskError if training, validation or test has no item."""
        for split, kept in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if not kept:
                raise TaskError(
                    f"--task.data '{splits.source}': no completion of {split} fits {length} tokens with its prompt "
                    "(--task.max-length, within the base's positions): raise --task.max-length, choose a smaller size "
                    "of the method, shorter texts, or a base with more positions"
                )


def fitting_conversations(base: LanguageModel, splits: ConversationSplits, length: int) -> FittingConversations:
    """Training and validation keep every completion that fits; the test keeps conversations that fit as a whole."""
    left_out: dict[str, list[str]] = {}
    train = _fitting(base, splits.train, length, "training completions", left_out)
    validation = _fitting(base, splits.validation, length, "validation completions", left_out)
    test = [ConversationRows(item, completion_rows(base, item)) for item in splits.test]
    kept = [each for each in test if all(row_size(row) <= length for row in each.rows)]
    long = [each.conversation.place for each in test if any(row_size(row) > length for row in each.rows)]
    if long:
        left_out["test conversations longer than the rows"] = long
    return FittingConversations([row for each in train for row in each.rows], validation, kept, left_out)


def _fitting(
    base: LanguageModel, items: Sequence[Conversation], length: int, what: str, left_out: dict[str, list[str]]
) -> list[ConversationRows]:
    kept, long = [], []
    for item in items:
        rows = completion_rows(base, item)
        fitting = [row for row in rows if row_size(row) <= length]
        long += [item.place] * (len(rows) - len(fitting))
        if fitting:
            kept.append(ConversationRows(item, fitting))
    if long:
        left_out[f"{what} longer than the rows"] = long
    return kept
