"""Several items in one row of tokens, each of which attends to itself alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tasks.language.model.likelihood import IGNORED, Row, TokenBatch, row_size

Pack = list[Row]  # the items of one row


def pack(rows: Sequence[Row], length: int) -> list[Pack]:
    """Fill rows of at most `length` tokens: the longest items first, each where it leaves least room (best fit).

    Every item must fit.
    """
    packs: list[Pack] = []
    by_room: dict[int, list[int]] = {}  # room left: packs
    for row in sorted(rows, key=row_size, reverse=True):
        size = row_size(row)
        room = min((room for room, indices in by_room.items() if room >= size and indices), default=None)
        index = len(packs) if room is None else by_room[room].pop()
        if room is None:
            packs.append([])
        packs[index].append(row)
        by_room.setdefault((length if room is None else room) - size, []).append(index)
    return packs


def packed(packs: Sequence[Pack], device: torch.device) -> TokenBatch:
    """Combine packs into one batch: positions count from 0 in each item, and padding is an item of its own.

    transformers keeps items apart where positions start again and no mask is given.
    """
    length = max(sum(map(row_size, items)) for items in packs)
    tokens = torch.zeros(len(packs), length, dtype=torch.long)
    labels, positions = torch.full_like(tokens, IGNORED), torch.zeros_like(tokens)
    real = 0
    for i, items in enumerate(packs):
        start = 0
        for prompt, text in items:
            end = start + len(prompt) + len(text)
            tokens[i, start:end] = torch.tensor(prompt + text)
            labels[i, start + len(prompt) : end] = torch.tensor(text)
            positions[i, start:end] = torch.arange(end - start)
            start = end
        positions[i, start:] = torch.arange(length - start)
        real += start
    return TokenBatch(tokens, labels, real, positions).to(device)
