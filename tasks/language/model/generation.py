"""Beam search over batches of prompts of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, NoRepeatNGramLogitsProcessor

from tasks.distributed import map_across_ranks
from tasks.errors import TaskError
from tasks.language.model.bases import LanguageModel

ROWS = 96  # prompts x beams per batch


@dataclass(frozen=True)
class BeamSearch:
    """Settings of beam search, by transformers' names (E2E recipe: Hu et al. 2021, Table 11)."""

    num_beams: int
    length_penalty: float
    no_repeat_ngram_size: int
    max_new_tokens: int


class NoRepeatInText(LogitsProcessor):
    """Ban repeated n-grams within the generated text only, as the paper's code does.

    transformers also bans the n-grams of the prompt; then a name of n tokens could not be copied from the meaning.
    """

    def __init__(self, size: int, prompt_length: int):
        self.inner = NoRepeatNGramLogitsProcessor(size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        text: Any = input_ids[:, self.prompt_length :]  # a LongTensor in the library's annotation
        return self.inner(text, scores)


@torch.no_grad()
def generate(
    base: LanguageModel,
    prompts: Sequence[list[int]],
    beam_search: BeamSearch,
    all_lines: bool = False,
    ends: Sequence[int] = (),
) -> list[str]:
    """The best text for each prompt (token ids), cut after its first line unless `all_lines`.

    `ends` are the tokens that end a text; the tokenizer's if there are none.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    size = prompts_at_once(beam_search.num_beams)
    batches = [order[start : start + size] for start in range(0, len(prompts), size)]

    def generate_texts(indices: list[int]) -> list[str]:
        return _generate_batch(base, [prompts[i] for i in indices], beam_search, ends)

    texts = [""] * len(prompts)
    for indices, batch_texts in zip(batches, map_across_ranks(batches, generate_texts, "generating"), strict=True):
        for i, text in zip(indices, batch_texts, strict=True):
            texts[i] = text if all_lines else text.strip().split("\n")[0]
    return texts


def prompts_at_once(num_beams: int) -> int:
    """How many prompts are generated from together."""
    return max(1, ROWS // num_beams)


def _generate_batch(
    base: LanguageModel, prompts: Sequence[list[int]], beam_search: BeamSearch, ends: Sequence[int]
) -> list[str]:
    longest = max(map(len, prompts))
    room = base.positions - longest
    if room < 1:
        raise TaskError(
            f"a prompt of {longest} tokens leaves no room in the {base.positions} positions of '{base.name}': "
            "shorten it or use a base with more positions"
        )
    pad = base.tokenizer.pad_token_id
    tokens = torch.full((len(prompts), longest), pad)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):  # left padding, so that all texts start at the same position
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    bans = [NoRepeatInText(beam_search.no_repeat_ngram_size, longest)] if beam_search.no_repeat_ngram_size else []
    with base.backbone.computing():
        generated = base.model.generate(  # pyright: ignore[reportCallIssue]  (nn.Module to the type checker)
            input_ids=tokens.to(base.device),
            attention_mask=mask.to(base.device),
            max_new_tokens=min(beam_search.max_new_tokens, room),
            num_beams=beam_search.num_beams,
            do_sample=False,
            length_penalty=beam_search.length_penalty,
            logits_processor=LogitsProcessorList(bans),
            early_stopping=False,
            eos_token_id=list(ends) or base.tokenizer.eos_token_id,
            pad_token_id=pad,
        )
    return base.tokenizer.batch_decode(generated[:, longest:], skip_special_tokens=True)
