"""A padded batch has no mask: the losses are a mask's, and nothing of it is read on the host."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.language.model import likelihood
from tests.tasks.language.test_chunked_logits import ALL, batch
from tests.tasks.language.test_chunked_logits import model as model  # a fixture


def test_the_loss_is_that_of_a_mask(model):
    rows = batch()
    mask = torch.arange(rows.tokens.shape[1]) < torch.tensor([[21], [12]])
    assert rows.read == mask.sum()
    logits = model(input_ids=rows.tokens, attention_mask=mask.long()).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), rows.labels[:, 1:].flatten(), ignore_index=likelihood.IGNORED)
    torch.testing.assert_close(likelihood.cross_entropy(model, rows), expected)


@pytest.mark.parametrize("at_once", [ALL, 64])
def test_no_value_is_read_in_a_step(model, monkeypatch, at_once):
    rows, reads = batch(), list[str]()
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__contains__"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda *args, n=name, f=original: (reads.append(n), f(*args))[1])
    assert bool(torch.ones(1))
    assert reads.pop() == "__bool__"
    likelihood.cross_entropy(model, rows, logits_at_once=at_once).backward()
    assert reads == []
