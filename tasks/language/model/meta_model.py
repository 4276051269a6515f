"""Plan a language task without weights: the model on the meta device, and batches of the longest rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from tasks.base import EvaluationCall, MetaModel, When
from tasks.bundled.bundled_bases import LANGUAGE_MODEL
from tasks.errors import TaskError
from tasks.language.model import bases, likelihood
from tasks.language.model.attention_masks import masks_by_shape
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.bases import LanguageModel
from tasks.language.model.cards import card_of
from tasks.language.model.generation import prompts_at_once
from tasks.language.model.likelihood import TokenBatch
from tasks.pretrained.loading import check_vocabulary
from tasks.pretrained.published import shapes


@dataclass(frozen=True)
class EvaluationShape:
    """What an evaluation measures: likelihoods of so many rows of the task and of general English, of which at most
    `familiar_length` tokens and half of the model's positions are read, and texts that are generated from prompts (0:
    none) of at most `prompt_length` tokens."""

    rows: int
    familiar_rows: int
    familiar_length: int
    prompts: int = 0
    num_beams: int = 1
    max_new_tokens: int = 0
    prompt_length: int = 0


class LanguageMetaModel(MetaModel):
    """Rows of `max_length` tokens; those of a training batch hold several items each if `packed`."""

    notes = ("every row has the maximum length",)
    fragmentation = 0.09  # rows of many lengths leave blocks that no later one fits: 8 to 10 % on published runs

    def __init__(
        self,
        base: str,
        max_length: int,
        label_smoothing: float = 0.0,
        evaluation: EvaluationShape | None = None,
        logits_at_once: int = bases.LOGITS_AT_ONCE,
        packed: bool = False,
    ):
        model = model_of(base)
        self.backbone = CausalLanguageModel(model, tuple(card_of(base)["targets"]))
        self.frozen = {}
        self.max_length = min(max_length, self.backbone.positions or max_length)
        self.label_smoothing, self.shape, self.logits_at_once = label_smoothing, evaluation, logits_at_once
        self.packed = packed
        self.facts = {"base": base, "max_length": self.max_length}

    def reserve_positions(self, count: int) -> None:
        if self.backbone.positions is not None:
            self.max_length = min(self.max_length, self.backbone.positions - count)
            self.facts["max_length"] = self.max_length

    def batch(self, size: int, device: torch.device) -> TokenBatch:
        batch = self._batch(size, self.max_length, device)
        return replace(batch, positions=torch.zeros_like(batch.tokens)) if self.packed else batch

    def _batch(self, size: int, length: int, device: torch.device) -> TokenBatch:
        tokens = torch.zeros(size, length, dtype=torch.long, device=device)
        return TokenBatch(tokens, torch.zeros_like(tokens), tokens.numel())

    def loss(self, batch: TokenBatch) -> Tensor:
        return likelihood.cross_entropy(self.backbone.model, batch, self.label_smoothing, self.logits_at_once)

    def without_values(self) -> contextlib.AbstractContextManager[None]:
        return masks_by_shape()

    def evaluation(self, device: torch.device) -> Sequence[EvaluationCall]:
        """Likelihoods of a batch of rows and, for a task that generates, the last step of a beam search."""
        shape = self.shape
        if shape is None:
            return ()
        model, rows = self.backbone.model, shape.rows
        familiar_length = min(shape.familiar_length, (self.backbone.positions or shape.familiar_length) // 2)
        likelihoods = (
            self._likelihood(rows, self.max_length, "training", device),
            self._likelihood(rows + shape.familiar_rows, max(self.max_length, familiar_length), "evaluation", device),
        )
        if not shape.prompts:
            return likelihoods
        at_once = min(shape.prompts, prompts_at_once(shape.num_beams))
        positions = self.backbone.positions or shape.prompt_length + shape.max_new_tokens
        prompt = max(1, min(shape.prompt_length, positions - shape.max_new_tokens))
        length = prompt + shape.max_new_tokens
        batches = -(-shape.prompts // at_once)
        beams = at_once * shape.num_beams
        prompts = EvaluationCall(
            f"reading of {at_once} prompts", lambda: read_prompts(model, beams, prompt, device), batches
        )
        search = EvaluationCall(
            f"beam search over {at_once} prompts",
            lambda: last_beam_step(model, at_once, shape.num_beams, length, device),
            batches * shape.max_new_tokens,
        )
        return (*likelihoods, prompts, search)

    def _likelihood(self, rows: int, length: int, when: When, device: torch.device) -> EvaluationCall:
        """The likelihood of rows of so many tokens."""
        size = min(likelihood.EVALUATION_BATCH, rows)
        run = lambda: self.measure(self._batch(size, length, device))  # noqa: E731
        return EvaluationCall(f"likelihood of {size} rows of {length} tokens", run, -(-rows // size), (when,))

    def measure(self, batch: TokenBatch) -> Any:
        """What an evaluation computes of a batch of rows."""
        return likelihood.row_losses(self.backbone.model, batch, self.logits_at_once)


def read_prompts(model: Any, rows: int, length: int, device: torch.device) -> Any:
    """The first step of a beam search: every beam reads its prompt, and only the last position has logits."""
    tokens = torch.zeros(rows, length, dtype=torch.long, device=device)
    return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=True, logits_to_keep=1)


def last_beam_step(model: Any, prompts: int, beams: int, length: int, device: torch.device) -> Any:
    """The last step of transformers' beam search: one token a beam with a full cache, scores, and the cache in the
    order of the surviving beams."""
    rows = prompts * beams
    cache = filled_cache(model, rows, length - 1, device)
    tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
    mask = torch.ones(rows, length, dtype=torch.long, device=device)
    logits = model(input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True).logits[:, -1].float()
    scores = torch.nn.functional.log_softmax(logits, dim=-1).view(prompts, -1)
    best = scores.topk(2 * beams).indices
    order: Any = torch.zeros(rows, dtype=torch.long, device=device)  # a LongTensor in the library's annotation
    cache.reorder_cache(order)
    return best


def filled_cache(model: Any, rows: int, length: int, device: torch.device) -> DynamicCache:
    """Keys and values of every layer for `length` positions, in the shapes and dtypes that the model itself caches."""
    token = torch.zeros(1, 1, dtype=torch.long, device=device)
    cache = DynamicCache()
    for index, layer in enumerate(model(input_ids=token, use_cache=True, logits_to_keep=1).past_key_values.layers):
        keys, values = (
            torch.zeros(rows, each.shape[1], length, each.shape[3], dtype=each.dtype, device=device)
            for each in (layer.keys, layer.values)
        )
        cache.update(keys, values, index)
    return cache


def model_of(base: str) -> nn.Module:
    """A causal language model of the base's shape on the meta device. Raises TaskError for an unknown base."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = configuration(base)
    try:
        config = AutoConfig.for_model(values["model_type"], **{k: v for k, v in values.items() if k != "model_type"})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TaskError(
            f"--task.base '{base}': its configuration does not describe a causal language model ({reason}); "
            "choose another base"
        ) from error
    model.tie_weights()
    return model.requires_grad_(False)


def load_without_weights(base: str) -> LanguageModel:
    """A base's tokenizer with a model on the meta device: enough to count tokens. Raises TaskError."""
    source = bases.find_source(base, weights=False)
    tokenizer, model = bases.load_tokenizer(source, base), model_of(base)
    embeddings: Any = model
    check_vocabulary(tokenizer, embeddings.get_input_embeddings().weight.shape[0], base)
    return LanguageModel(model, tokenizer, card_of(base), base, source.revision)


def configuration(base: str) -> dict[str, Any]:
    """The contents of config.json, of a published or bundled base or a folder."""
    known = shapes.published(base, shapes.LANGUAGE_MODEL)
    if known is not None:
        return known["config"]
    file = bases.find_source(base, weights=False).folder / "config.json"
    if not file.is_file():
        raise TaskError(
            f"--task.base '{base}' has no configuration {file}: expected a folder with a config.json, "
            f"'{LANGUAGE_MODEL}' or one of {', '.join(shapes.names(shapes.LANGUAGE_MODEL))}"
        )
    return json.loads(file.read_text())
