"""Pictures held out of training, where they are not drawn: no picture or near-duplicate of it is in two splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from tasks.bad_items import left_out_facts, left_out_line, numbered
from tasks.diffusion.data.near_duplicates import near_duplicate_groups
from tasks.diffusion.data.splits import Pictures, PictureSplits, stack
from tasks.diffusion.evaluation.metrics.image_metric import FEWEST_PICTURES
from tasks.duplicates import duplicate_facts
from tasks.errors import TaskError

FEWEST_DIFFERENT = 5  # one for the test, one for validation, three for training
LEFT_OVER = "near-duplicates of held-out pictures"  # a kind of pictures that are left out

Group = list[int]  # indices of near-duplicates


@dataclass(frozen=True)
class HeldOut:
    """Maximum number of pictures in each split; the others are for training."""

    test: int
    validation: int
    floor: int


def openmoji_animals(validation: int, test: int, resolution: int) -> PictureSplits:
    """OpenMoji's animals by their English names, split as `split` does."""
    from tasks.diffusion.data import openmoji

    try:
        names = openmoji.animals()
    except ModuleNotFoundError as missing:
        raise TaskError(str(missing)) from None
    pixels = [openmoji.rasterise(code, resolution) for code in tqdm(names, "OpenMoji", leave=False)]
    facts = {"data": "openmoji", "attribution": openmoji.ATTRIBUTION}
    return split(Pictures(stack(pixels), [f"a picture of {name}" for name in names.values()]), validation, test, facts)


def split(pictures: Pictures, validation: int, test: int, facts: dict[str, Any]) -> PictureSplits:
    """A fifth for the test, at most `test`; a tenth for validation, at most `validation`; a twentieth for the floor, at
    most as many as for the test and none if that is too few for a distance; the rest for training.

    Raises TaskError if fewer than FEWEST_DIFFERENT pictures differ.
    """
    count, groups = len(pictures), near_duplicate_groups(pictures.pixels)
    if len(groups) < FEWEST_DIFFERENT:
        raise TaskError(
            f"{facts['data']} has {numbered(count, 'picture')} that can be used{different(groups)}; at least "
            f"{FEWEST_DIFFERENT} different ones are needed, one of them for the test and one for validation; left out: "
            f"{left_out_line(facts)}"
        )
    tested = min(max(1, count // 5), test)
    floor = min(count // 20, tested)
    held_out = HeldOut(tested, min(max(1, count // 10), validation), floor if floor >= FEWEST_PICTURES else 0)
    return divided(pictures, groups, held_out, facts)


def different(groups: Sequence[Group]) -> str:
    """ ", 2 of them different", or nothing if all are."""
    return f", {len(groups)} of them different" if any(len(group) > 1 for group in groups) else ""


def divided(pictures: Pictures, groups: Sequence[Group], held_out: HeldOut, facts: dict[str, Any]) -> PictureSplits:
    """Splits that share no group, each held-out one evenly spread over the order of the pictures."""
    remaining, parts, left_over = list(groups), {}, []
    for name in ("test", "validation", "floor"):
        chosen, left = _chosen(remaining, getattr(held_out, name))
        parts[name] = pictures[[index for group in chosen for index in group]]
        left_over += left
        taken = {index for group in chosen for index in group}
        remaining = [group for group in remaining if taken.isdisjoint(group)]
    train = pictures[sorted(index for group in remaining for index in group)]
    names = pictures.names or [f"{caption} ({index})" for index, caption in enumerate(pictures.captions)]
    duplicates = duplicate_facts([[names[index] for index in group] for group in groups if len(group) > 1])
    left_out = left_out_facts({LEFT_OVER: [names[index] for index in left_over]} if left_over else {}, facts)
    return PictureSplits(train=train, **parts, facts=facts | duplicates | left_out)


def _chosen(groups: Sequence[Group], count: int) -> tuple[list[Group], Group]:
    """Groups of at most `count` pictures together, and pictures of the last one that are left over.

    If every group has more pictures, the smallest one gives its first `count`. One group at least is not chosen.
    """
    chosen = evenly_spread(groups, count)
    if chosen or not count or len(groups) < 2:
        return chosen, []
    smallest = min(groups, key=len)
    return [smallest[:count]], smallest[count:]


def evenly_spread(groups: Sequence[Group], count: int) -> list[Group]:
    """Groups of `count` pictures together, evenly spread; fewer where larger groups do not fit.

    A group is chosen where the quota, which grows by count / total with each picture, is half of the group ahead of
    what was chosen before. A large group is therefore rarely chosen for a small set.
    """
    total, seen, taken, chosen = sum(map(len, groups)), 0, 0, []
    for group in groups:
        seen += len(group)
        is_due = 2 * (count * seen - total * taken) >= total * len(group)
        if is_due and taken + len(group) <= count:
            chosen.append(group)
            taken += len(group)
    return chosen
