"""Plan a language task without weights: the model on the meta device, and batches of the longest rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import masking_utils

from tasks.base import MetaModel
from tasks.bundled.bundled_bases import LANGUAGE_MODEL
from tasks.errors import TaskError
from tasks.language.model import bases, likelihood
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.bases import LanguageModel
from tasks.language.model.cards import card_of
from tasks.language.model.likelihood import TokenBatch
from tasks.pretrained.loading import check_vocabulary
from tasks.pretrained.published import shapes


class LanguageMetaModel(MetaModel):
    """Rows of `max_length` tokens; batches of several have a mask, because real batches are padded."""

    notes = ("every row has the maximum length",)

    def __init__(self, base: str, max_length: int, label_smoothing: float = 0.0):
        model = model_of(base)
        self.backbone = CausalLanguageModel(model, tuple(card_of(base)["targets"]))
        self.frozen = {}
        self.max_length = min(max_length, self.backbone.positions or max_length)
        self.label_smoothing = label_smoothing
        self.facts = {"base": base, "max_length": self.max_length}

    def batch(self, size: int, device: torch.device) -> TokenBatch:
        tokens = torch.zeros(size, self.max_length, dtype=torch.long, device=device)
        return TokenBatch(tokens, torch.ones_like(tokens) if size > 1 else None, torch.zeros_like(tokens))

    def loss(self, batch: TokenBatch) -> Tensor:
        with masks_by_shape():
            return likelihood.cross_entropy(self.backbone.model, batch, self.label_smoothing)


@contextlib.contextmanager
def masks_by_shape() -> Iterator[None]:
    """Make transformers build an attention mask whenever one is given, without looking at its values.

    It checks whether a mask hides any token and whether rows pack several texts. Meta tensors have no values, but the
    answers are known: a batch has a mask because a row is padded, and nothing is packed.
    """
    replacements = {"is_tracing": lambda *_: True, "find_packed_sequence_indices": lambda *_: None}
    originals = {name: getattr(masking_utils, name) for name in replacements}
    try:
        for name, replacement in replacements.items():
            setattr(masking_utils, name, replacement)
        yield
    finally:
        for name, original in originals.items():
            setattr(masking_utils, name, original)


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
