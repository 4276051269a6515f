"""The prepared sft task: completions after their prompts as token rows, generated texts and their answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bad_items import first_names, print_left_out
from tasks.base import Evaluation, Figure, Metric
from tasks.errors import TaskError
from tasks.language.data.sft.conversation_data import ConversationSplits
from tasks.language.data.sft.rows import ConversationRows, fitting_conversations
from tasks.language.language_task import CPU, LanguageTask, part_of
from tasks.language.metrics.answers import (
    ANSWER_ACCURACY,
    COMPLETION_PERPLEXITY,
    EXACT_MATCH,
    answer_of,
    matches,
    share_right,
)
from tasks.language.metrics.perplexity import Losses, perplexity
from tasks.language.model import likelihood
from tasks.language.model.bases import LanguageModel
from tasks.language.model.chat import end_ids, has_template
from tasks.language.model.generation import BeamSearch, generate
from tasks.language.model.likelihood import TokenBatch
from tasks.language.model.packing import pack, packed


class SupervisedFineTuning(LanguageTask):
    """An item is a completion with all that comes before it; the loss counts the completion and its end alone."""

    def __init__(
        self,
        base: LanguageModel,
        splits: ConversationSplits,
        generation: Mapping[str, Any],
        max_length: int,
        packing: bool,
        answer_pattern: re.Pattern[str] | None,
        label_smoothing: float,
        drift_items: int,
        metrics: Mapping[str, Metric],
    ):
        super().__init__(base, metrics, drift_items, label_smoothing)
        self.splits, self.requested_length, self.packing = splits, max_length, packing
        self.answer_pattern = answer_pattern
        self.beam_search = BeamSearch(**base.generation_settings(generation))
        self.ends = end_ids(base, any(item.is_chat for item in (*splits.train, *splits.test)))
        self._require_answers()
        self.select_items()

    def select_items(self) -> None:
        splits, before = self.splits, self.facts
        length = min(self.requested_length, self.base.positions)
        self.familiar = self.familiar_rows(length)
        fitting = fitting_conversations(self.base, splits, length)
        fitting.require_items(splits, length)
        self.training, self.test = fitting.train, fitting.test
        self.validation = [row for rows in fitting.validation for row in rows.rows]
        self.validation_items = len(fitting.validation)
        self.packs = pack(self.training, length) if self.packing else None
        self.train_items = len(self.training if self.packs is None else self.packs)
        self.facts = self.shared_facts(splits) | {
            "train_conversations": len(splits.train),
            "test_items": len(self.test),
            "max_length": length,
            "prompt_format": self._prompt_format(),
            "generation": asdict(self.beam_search),
            "left_out": splits.facts.get("left_out", {}) | {k: len(each) for k, each in fitting.left_out.items()},
            "left_out_items": splits.facts.get("left_out_items", {}) | fitting.named(),
        }
        if self.packs is not None:
            self.facts["packed_rows"] = len(self.packs)
        print_left_out(self.facts, before)

    def _require_answers(self) -> None:
        """Raise TaskError if the pattern finds no answer in a test completion."""
        pattern, completions = self.answer_pattern, [item.completion for item in self.splits.test]
        without = [text for text in completions if pattern is not None and answer_of(pattern, text) is None]
        if pattern is not None and without:
            raise TaskError(
                f"--task.answer-pattern '{pattern.pattern}' finds no answer in {len(without)} of {len(completions)} "
                f"test completions ({first_names(without)}): expected one in each; correct the pattern or the data"
            )

    def _prompt_format(self) -> str:
        if not any(item.is_chat for item in (*self.splits.train, *self.splits.test)):
            return "prompt and completion"
        return "the tokenizer's chat template" if has_template(self.base) else "lines of 'User:' and 'Assistant:'"

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        return super().batch(indices) if self.packs is None else packed([self.packs[i] for i in indices], CPU)

    def evaluation_inputs(self) -> dict[str, Any]:
        return {
            "test": [(item.rows, item.conversation.prompt, item.conversation.completion) for item in self.test],
            "validation_items": self.validation_items,
            "generation": asdict(self.beam_search),
            "ends": self.ends,
            "answer_pattern": None if self.answer_pattern is None else self.answer_pattern.pattern,
        }

    def measure(self, output: Path | None, share: float | None) -> Evaluation:
        test = part_of(self.test, share)
        prompts = [item.rows[-1][0] for item in test]
        texts = [text.strip() for text in generate(self.base, prompts, self.beam_search, True, self.ends)]
        completions = [item.conversation.completion for item in test]
        figures, columns = self._answer_figures(texts, completions)
        losses, of_row = self._losses(test)
        nats, tokens = np.bincount(of_row, losses.nats), np.bincount(of_row, losses.tokens)
        if COMPLETION_PERPLEXITY.name in self.metrics:
            figures[COMPLETION_PERPLEXITY.name] = perplexity(COMPLETION_PERPLEXITY, losses, self.extractor, of_row)
        likelihood_figures, artifacts = self.likelihood_figures(self.validation_items, share)
        items = [
            {"item": i, "prompt": item.conversation.prompt, "text": texts[i], "completion": completions[i]}
            | {"nats": float(nats[i]), "tokens": int(tokens[i])}
            | {name: column[i] for name, column in columns.items()}
            for i, item in enumerate(test)
        ]
        if output is not None:
            _write_texts(items, output)
        return Evaluation(figures | likelihood_figures, items, artifacts, self._not_measured(figures))

    def _answer_figures(
        self, texts: Sequence[str], completions: Sequence[str]
    ) -> tuple[dict[str, Figure], dict[str, list[Any]]]:
        """Exact match, accuracy of answers if there is a pattern, and their columns of the item table."""
        equal = matches(texts, completions)
        columns: dict[str, list[Any]] = {EXACT_MATCH.name: [float(each) for each in equal]}
        figures = {EXACT_MATCH.name: share_right(EXACT_MATCH, equal, "equal words")}
        if self.answer_pattern is not None:
            pattern = self.answer_pattern
            answers, expected = ([answer_of(pattern, text) for text in each] for each in (texts, completions))
            right = [answer == wanted for answer, wanted in zip(answers, expected, strict=True)]
            figures[ANSWER_ACCURACY.name] = share_right(ANSWER_ACCURACY, right, f"pattern {pattern.pattern}")
            columns |= {ANSWER_ACCURACY.name: [float(each) for each in right], "answer": answers}
        kept = {name: figure for name, figure in figures.items() if name in self.metrics}
        return kept, columns

    def _losses(self, test: Sequence[ConversationRows]) -> tuple[Losses, np.ndarray]:
        """The losses of all completions (rows), and the index of the conversation that each is from, (rows,)."""
        of_row = np.repeat(np.arange(len(test)), [len(item.rows) for item in test])
        return likelihood.losses(self.base, [row for item in test for row in item.rows]), of_row

    def _not_measured(self, figures: Mapping[str, Figure]) -> dict[str, str]:
        name = ANSWER_ACCURACY.name
        if name not in self.metrics or name in figures:
            return {}
        return {name: "needs --task.answer-pattern, a regular expression that finds the answer in a text"}


def _write_texts(items: list[dict[str, Any]], folder: Path) -> None:
    """Write the generated texts to texts.txt, next to their prompts and completions."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{item['prompt']}\n  text:       {item['text']}\n  completion: {item['completion']}\n" for item in items]
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
