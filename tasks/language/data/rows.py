"""The rows of tokens that the tasks make of their data, and which of them fit a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.errors import TaskError
from tasks.language.data.e2e_data import MeaningSplits
from tasks.language.data.meanings import Item, prompt_of
from tasks.language.model.bases import LanguageModel
from tasks.language.model.likelihood import Row, row_size, windows

ADVICE = ": choose a smaller size of the method, shorter texts, or a base with more positions"


@dataclass(frozen=True)
class FittingItems:
    """The rows and test meanings that fit a base's positions; `left_out` has the meanings of the others by reason."""

    train: list[Row]
    validation: list[Row]
    test: list[Item]
    left_out: dict[str, list[str]]

    def require_items(self, base: LanguageModel, splits: MeaningSplits) -> None:
        """Raise TaskError if training, validation or test has no item."""
        for split, kept in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if not getattr(splits, split):
                raise TaskError(f"--task.data '{splits.source}' has no meaning in {split}: expected at least one")
            if not kept:
                raise TaskError(f"no meaning of {split} fits the {base.positions} positions of '{base.name}'{ADVICE}")


def fitting_items(base: LanguageModel, splits: MeaningSplits) -> FittingItems:
    """Select the items that fit the positions which the base has left."""
    train, long_train = _fitting_rows(base, splits.train)
    validation, long_validation = _fitting_rows(base, splits.validation)
    test = [item for item in splits.test if prompt_fits(base, item)]
    left_out = {
        "training pairs longer than the base's positions": long_train,
        "validation pairs longer than the base's positions": long_validation,
        "test meanings longer than the base's positions": [i.line for i in splits.test if not prompt_fits(base, i)],
    }
    return FittingItems(train, validation, test, {kind: lines for kind, lines in left_out.items() if lines})


def _fitting_rows(base: LanguageModel, items: Sequence[Item]) -> tuple[list[Row], list[str]]:
    """The rows that fit, and the meanings of those that do not."""
    rows = reference_rows(base, items)
    lines = [item.line for item in items for _ in item.references]
    pairs = list(zip(rows, lines, strict=True))
    return [row for row in rows if row_fits(base, row)], [line for row, line in pairs if not row_fits(base, row)]


def prompt_ids(base: LanguageModel, item: Item) -> list[int]:
    return base.prompt_ids(prompt_of(item.line))


def reference_rows(base: LanguageModel, items: Sequence[Item]) -> list[Row]:
    """One row per reference: the meaning, and the text with its end-of-text token."""
    end = [base.tokenizer.eos_token_id]
    return [(prompt_ids(base, item), base.text_ids(text) + end) for item in items for text in item.references]


def row_fits(base: LanguageModel, row: Row) -> bool:
    return row_size(row) <= base.positions


def prompt_fits(base: LanguageModel, item: Item) -> bool:
    """Whether a meaning leaves room for a text."""
    return len(prompt_ids(base, item)) < base.positions


def row_length(base: LanguageModel, max_length: int) -> int:
    """Length of the rows that a long text is cut into."""
    return min(max_length, base.positions)


def rows_by_part(base: LanguageModel, parts: Sequence[str], length: int) -> list[list[Row]]:
    return [windows(base.document_ids(part), length) for part in parts]
