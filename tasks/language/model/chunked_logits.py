"""Logits a few rows at a time: with a vocabulary of 128,000, all of them take more memory than the rest of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from tasks.language.model.attention_masks import nothing_read
from tasks.pretrained.replaced_modules import with_modules

Reduction = Callable[[Tensor, Tensor], Tensor]  # logits (rows, vocabulary) in fp32 and their targets (rows, ...)


def fits(model: Any, targets: Tensor, logits_at_once: int) -> bool:
    """Whether all logits are few enough to be computed together."""
    return targets.numel() * model.config.vocab_size <= logits_at_once


def by_chunk(
    model: Any,
    tokens: Tensor,
    targets: Tensor,
    reduce: Reduction,
    logits_at_once: int,
    positions: Tensor | None = None,
) -> list[Tensor]:
    """`reduce` of the logits that predict `targets` (n, length - 1), for one chunk of flattened rows after the other.

    `targets` may have further dimensions; `positions` (n, length) are those of packed rows. A chunk's logits are freed
    at once, and computed again in the backward pass (Chen et al. 2016, arXiv 1604.06174).
    """
    rows = max(1, logits_at_once // model.config.vocab_size)
    states = final_states(model, tokens, positions)[:, :-1].flatten(0, 1)
    head = head_of(model)

    def reduced(states: Tensor, targets: Tensor) -> Tensor:
        return reduce(logits_of(head, states), targets)

    chunks = list(zip(states.split(rows), targets.flatten(0, 1).split(rows), strict=True))
    if not torch.is_grad_enabled():
        return [reduced(*chunk) for chunk in chunks]
    # nothing in a head is random
    return [checkpoint(reduced, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]


def final_states(model: Any, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
    """What the output layer reads, (n, length, width), from a call of the whole model, hooks of a method included.

    The output layer itself sees one position of one row: of more, `bmm` would copy its weights for every row in bf16.
    """
    states: list[Tensor] = []

    def keep(module: nn.Module, args: tuple) -> tuple[Tensor]:
        states.append(args[0])
        return (args[0][:1, -1:],)

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        with nothing_read(packed=positions is not None):
            model(input_ids=tokens, position_ids=positions, use_cache=False)
    finally:
        hook.remove()
    return states[0]


def head_of(model: Any) -> Any:
    """The model without its decoder: from final states, given as `inputs_embeds`, to logits.

    What an architecture does beside its output layer (Gemma's soft cap, Granite's scale) is therefore its own code's.
    """
    return with_modules(model, **{model.base_model_prefix: Unchanged()})


def logits_of(head: Any, states: Tensor) -> Tensor:
    """Logits (rows, vocabulary) in fp32 of final states (rows, width), by a `head_of` the model."""
    return head.forward(inputs_embeds=states[None], use_cache=False).logits[0].float()


class Unchanged(nn.Module):
    """In the place of a decoder."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **options: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(inputs_embeds)  # pyright: ignore[reportArgumentType]
