"""A language task's shapes: a model made from its configuration alone, and batches of rows as long as real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import masking_utils

from tasks.base import MetaModel
from tasks.errors import TaskError
from tasks.language.model import bases, likelihood
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.likelihood import TokenBatch
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, names, published


class LanguageMetaModel(MetaModel):
    """Rows of `length` tokens; a batch of several has a mask, because some of its real rows are shorter."""

    notes = ("every row is as long as the longest that training can meet",)

    def __init__(self, base: str, length: int, label_smoothing: float = 0.0):
        model = model_of(base)
        self.backbone = CausalLanguageModel(model, tuple(bases.card_of(base)["targets"]))
        self.frozen = {}
        self.length = min(length, self.backbone.positions or length)
        self.label_smoothing = label_smoothing
        self.facts = {"base": base, "length": self.length}

    def batch(self, size: int, device: torch.device) -> TokenBatch:
        tokens = torch.zeros(size, self.length, dtype=torch.long, device=device)
        return TokenBatch(tokens, torch.ones_like(tokens) if size > 1 else None, torch.zeros_like(tokens))

    def loss(self, batch: TokenBatch) -> Tensor:
        with masks_by_shape():
            return likelihood.cross_entropy(self.backbone.model, batch, self.label_smoothing)


def masks_by_shape():
    """A context in which transformers makes a mask where one is given and none where none is, without reading values.

    It looks whether a mask hides anything and whether rows hold several packed texts; a tensor without values cannot
    say, and the answers are known: the batch has a mask because a row is padded, and nothing is packed.
    """
    return patch.multiple(masking_utils, is_tracing=lambda *_: True, find_packed_sequence_indices=lambda *_: None)


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
            f"--task.base '{base}': no causal language model can be made from its configuration ({reason})"
        ) from error
    model.tie_weights()
    return model.requires_grad_(False)


def configuration(base: str) -> dict[str, Any]:
    """What config.json says: of a published base by name, of `gpt-mini`, or of a folder."""
    found = published(base, LANGUAGE_MODEL)
    if found is not None:
        return found["config"]
    file = (bases.BUNDLED if base == "gpt-mini" else Path(base)) / "config.json"
    if not file.is_file():
        raise TaskError(
            f"--task.base '{base}': there is no configuration {file}; expected a folder with a config.json, 'gpt-mini' "
            f"or one of {', '.join(names(LANGUAGE_MODEL))}"
        )
    return json.loads(file.read_text())
