"""Padded and packed batches have no mask: the losses are a mask's, and nothing of them is read on the host."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import masking_utils

from tasks.language.model import likelihood
from tasks.language.model.attention_masks import nothing_read, packed_indices
from tasks.language.model.likelihood import Row, TokenBatch
from tasks.language.model.packing import packed
from tests.tasks.language.test_chunked_logits import ALL, CPU, batch
from tests.tasks.language.test_chunked_logits import model as model  # a fixture


def packed_batch() -> tuple[TokenBatch, list[Row]]:
    """Two rows, of three items and of one with padding, and the items."""
    generator = torch.Generator().manual_seed(4)
    tokens = [torch.randint(64, (length,), generator=generator).tolist() for length in (7, 5, 9, 16)]
    items: list[Row] = [(ids[:2], ids[2:]) for ids in tokens]
    return packed([items[:3], items[3:]], CPU), items


def test_the_loss_is_that_of_a_mask(model):
    rows = batch()
    mask = torch.arange(rows.tokens.shape[1]) < torch.tensor([[21], [12]])
    assert rows.read == mask.sum()
    logits = model(input_ids=rows.tokens, attention_mask=mask.long()).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), rows.labels[:, 1:].flatten(), ignore_index=likelihood.IGNORED)
    torch.testing.assert_close(likelihood.cross_entropy(model, rows), expected)


@pytest.mark.parametrize("at_once", [ALL, 64])
def test_the_loss_of_packed_rows_is_that_of_each_item_alone(model, at_once):
    rows, items = packed_batch()
    with torch.no_grad():
        alone = [likelihood.row_losses(model, likelihood.padded([item], CPU)) for item in items]
        nats, tokens = (torch.cat(each).sum() for each in zip(*alone, strict=True))
        torch.testing.assert_close(likelihood.cross_entropy(model, rows, 0.0, at_once), nats / tokens)
    assert rows.read == 7 + 5 + 9 + 16


@pytest.mark.parametrize("rows", [batch(), packed_batch()[0]], ids=["padded", "packed"])
@pytest.mark.parametrize("at_once", [ALL, 64])
def test_no_value_is_read_in_a_step(model, monkeypatch, at_once, rows):
    reads = list[str]()
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__contains__"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda *args, n=name, f=original: (reads.append(n), f(*args))[1])
    assert bool(torch.ones(1))
    assert reads.pop() == "__bool__"
    likelihood.cross_entropy(model, rows, logits_at_once=at_once).backward()
    assert reads == []


def test_the_items_of_packed_rows_are_those_that_transformers_finds():
    positions: Any = packed_batch()[0].positions
    one = torch.arange(5)[None]
    expected: Any = masking_utils.find_packed_sequence_indices(positions)
    assert torch.equal(packed_indices(positions), expected)
    assert masking_utils.find_packed_sequence_indices(one) is None, "after it has looked"
    assert not packed_indices(one).any()
    with nothing_read(packed=True):
        found: Any = masking_utils.find_packed_sequence_indices(positions)
        assert torch.equal(found, expected)
    with nothing_read():
        assert masking_utils.find_packed_sequence_indices(positions) is None
