"""Supervised fine-tuning on prompts and completions or on conversations (Wei et al. 2022, Ouyang et al. 2022)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adapters.bounds import bounded
from tasks.bad_items import OnBadItem
from tasks.base import Task, declare
from tasks.language.metrics.answers import ANSWER_ACCURACY, COMPLETION_PERPLEXITY, EXACT_MATCH, compiled
from tasks.language.metrics.perplexity import DRIFT, FAMILIAR_PERPLEXITY, VALIDATION_LOSS
from tasks.language.settings import GeneratedTextSettings
from tasks.pretrained.settings import LARGEST_ITEMS

if TYPE_CHECKING:
    import torch

    from tasks.data_report import DataReport
    from tasks.language.data.sft.conversation_data import ConversationSplits
    from tasks.language.model.loaded_base import LoadedLanguageModel
    from tasks.language.model.meta_model import LanguageMetaModel
    from tasks.language.sft_task import SupervisedFineTuning


@dataclass(frozen=True)
class Sft(GeneratedTextSettings, Task, name="sft"):
    """Supervised fine-tuning: from a prompt to its completion, or a conversation to its answers, on your own JSONL."""

    other_names = ("instruction", "instructions", "instruct", "chat", "supervised", "supervised-fine-tuning")
    metrics = declare(
        *(ANSWER_ACCURACY, EXACT_MATCH, COMPLETION_PERPLEXITY),
        *(FAMILIAR_PERPLEXITY, DRIFT, VALIDATION_LOSS),
    )
    primary_metric = "completion_perplexity"  # every data set has it; answers need exact ones
    input_size_field = "max_length"
    data_size_field = "train_items"
    evaluation_settings: ClassVar = (*GeneratedTextSettings.evaluation_settings, "answer_pattern")
    option_hints: ClassVar = {
        "evaluation_seeds": "nothing in this evaluation is random: a search writes the same texts each time",
        "block_size": "it is called --task.max-length here",
        "completion_only_loss": "the loss is on completions alone",
        "assistant_only_loss": "the loss is on the assistant's messages alone",
        "dataset_name": "--task.data takes a name of the hub",
        "dataset_text_field": "the data need prompts and completions; see the task style for plain text",
        "label_smoothing_factor": "it is called --task.label-smoothing here",
        "max_seq_length": "it is called --task.max-length here",
        "temperature": "texts are generated without sampling: see --task.num-beams",
        "top_p": "texts are generated without sampling: see --task.num-beams",
        "train_file": "--task.data takes a file, or a folder with train, validation and test files",
        "validation_items": "--task.test-items limits validation and test alike",
    }

    data: str = "word-problems"
    """Prompts and completions: "word-problems" (synthetic, with exact answers), a JSONL, JSON or CSV file with
    prompt and completion or messages (split by prompt), a folder with train, validation and test files, an instruction
    set by name ("alpaca", "dolly", "gsm8k", "no-robots", "ultrachat", ...), or a hub dataset "org/name" or
    "org/name:configuration"."""
    on_bad_item: OnBadItem = "fail"
    """For a row without prompt or completion: fail and name it, or skip and count it in the record."""
    train_items: int | None = bounded(None, at_least=1, at_most=LARGEST_ITEMS)
    """Maximum number of conversations for training. Default: all; 2000 synthetic ones."""
    test_items: int = bounded(100, at_least=2, at_most=LARGEST_ITEMS)
    """Maximum number of conversations in validation, and in test."""
    max_length: int = bounded(512, at_least=2, at_most=LARGEST_ITEMS)
    """Maximum length of a prompt with its completion, in tokens, within the base's positions: longer ones are left out
    and counted."""
    apply_chat_template: bool = False
    """Write a prompt with its completion as a conversation too; messages always are one. A tokenizer without a chat
    template takes lines of "User:" and "Assistant:"."""
    packing: bool = False
    """Fill each training row with several items, which do not see each other. A batch then has as many rows."""
    answer_pattern: str | None = None
    """Regular expression whose first group, or whole match if it has none, is the answer; its last match in a text
    counts. Default: that of "word-problems" and "gsm8k"; other data have none."""
    label_smoothing: float = bounded(0.0, at_least=0, below=1)
    """Share of the training target that is spread over the vocabulary."""
    num_beams: int = bounded(1, at_least=1, at_most=1000)
    """Beams in generation; 1 takes the most likely token."""
    length_penalty: float = bounded(1.0, at_least=-100, at_most=100)
    """Exponent of the length that divides a beam's score."""
    no_repeat_ngram_size: int = bounded(0, at_least=0, at_most=1000)
    """No n-gram of this many tokens occurs twice in a text; 0 allows repeats."""
    max_new_tokens: int = bounded(128, at_least=1, at_most=LARGEST_ITEMS)
    """Maximum length of a generated text."""

    def check_settings(self) -> None:
        super().check_settings()
        self._pattern()

    def prepare(self, device: torch.device) -> SupervisedFineTuning:
        from tasks.language.model import bases
        from tasks.language.sft_task import SupervisedFineTuning

        self.check_settings()
        splits = self._splits()
        base = bases.load(self.base, device, self.allow_pickle, self.logits_at_once, self.base_precision)
        return SupervisedFineTuning(
            base,
            splits,
            self.generation(),
            self.max_length,
            self.packing,
            self._pattern(),
            self.label_smoothing,
            self.drift_items,
            self.metrics,
        )

    def data_size(self) -> int | None:
        return self.train_items

    def describe_data(self) -> DataReport:
        from tasks.language.data.sft.report import report_of_conversations

        return report_of_conversations(self._splits("skip"), self.base, self.max_length, self.on_bad_item == "fail")

    def data_digest(self) -> str | None:
        from tasks.language.data.sft import conversation_data

        return None if self.data == conversation_data.DRAWN else self._splits().revision

    def meta_model(self) -> LanguageMetaModel:
        from tasks.language.model.meta_model import EvaluationShape, LanguageMetaModel

        generated = self.test_items, self.num_beams, self.max_new_tokens, self.max_length
        shape = EvaluationShape(self.test_items, 2 * self.drift_items, self.max_length, *generated)
        return LanguageMetaModel(
            self.base, self.max_length, self.label_smoothing, shape, self.logits_at_once, packed=self.packing
        )

    def load_base(self, device: torch.device) -> LoadedLanguageModel:
        from tasks.language.data.sft import conversation_data
        from tasks.language.model import chat
        from tasks.language.model.loaded_base import LoadedLanguageModel

        is_chat = self.apply_chat_template or conversation_data.holds_chats(self.data)
        return LoadedLanguageModel(
            self.base,
            device,
            self.generation(),
            prompt_ids=lambda base, prompt: chat.prompt_ids(base, prompt, is_chat),
            all_lines=True,
            allow_pickle=self.allow_pickle,
            ends=lambda base: chat.end_ids(base, is_chat),
            precision=self.base_precision,
        )

    def _splits(self, on_bad_item: OnBadItem | None = None) -> ConversationSplits:
        from tasks.language.data.sft import conversation_data

        splits = conversation_data.load(self.data, self.train_items, self.test_items, on_bad_item or self.on_bad_item)
        return conversation_data.as_conversations(splits) if self.apply_chat_template else splits

    def _pattern(self) -> re.Pattern[str] | None:
        from tasks.language.data.sft import conversation_data, instruction_sets, word_problems

        pattern = self.answer_pattern
        if pattern is None and self.data == conversation_data.DRAWN:
            pattern = word_problems.ANSWER_PATTERN
        elif pattern is None and (known := instruction_sets.instruction_set(self.data)) is not None:
            pattern = known.answer_pattern
        return None if pattern is None else compiled(pattern)
