"""What transformers asks of a batch's values before it builds an attention mask, answered without reading them.

On a GPU every such question waits for all work that is queued; a meta tensor has no values to answer with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, masking_utils

FIND_PACKED = masking_utils.find_packed_sequence_indices


@contextlib.contextmanager
def nothing_read(packed: bool = False) -> Iterator[None]:
    """Of rows without a mask it asks whether they pack several texts (`packed` says so) and whether they look padded
    (padding on the right is behind all that a causal model reads)."""
    none = lambda *_, **__: None  # noqa: E731
    with (
        _replaced(masking_utils, "find_packed_sequence_indices", packed_indices if packed else none),
        _replaced(PreTrainedModel, "warn_if_padding_and_no_attention_mask", none),
    ):
        yield


def packed_indices(position_ids: Tensor) -> Tensor:
    """The text, by number, of each token in rows of several texts (n, length): positions start again in each.

    transformers' own function also looks whether any row has more than one.
    """
    with _replaced(masking_utils, "is_tracing", lambda *_: True):
        indices = FIND_PACKED(position_ids)
    assert indices is not None, "a traced function does not look at values"
    return indices


@contextlib.contextmanager
def masks_by_shape() -> Iterator[None]:
    """Of a mask it asks whether it hides any token: build one whenever one is given."""
    with nothing_read(), _replaced(masking_utils, "is_tracing", lambda *_: True):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
