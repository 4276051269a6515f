"""A part of a planted task's test, measured on a model that has moved."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tasks.base import Evaluation
from tasks.fixed_part import fixed_part


def part_of_moved(prepared: Any, items: int, share: float, rel: float) -> tuple[Evaluation, list[dict[str, Any]]]:
    """The part's evaluation, checked against the items of the whole one that are in it, which are returned too."""
    with torch.no_grad():
        for parameter in prepared.backbone.model.parameters():
            parameter.mul_(1.01)
    whole, part = prepared.evaluate(), prepared.evaluate_part(share)
    chosen = [whole.items[i] for i in fixed_part(items, share)]
    assert [item["item"] for item in part.items] == [item["item"] for item in chosen]
    distance, effect = (sum(item[name] for item in chosen) for name in ("distance", "effect"))
    figure = part.figures["recovered"]
    assert (figure.value, figure.n) == (pytest.approx(1 - distance / effect, rel=rel), len(chosen))
    return part, chosen
