"""Named studies: each function returns the run configurations of one question, and says what came out.

This file is data: the one place in `experiments` that names methods and tasks. What a command line gives beside
`--study NAME` (--train.*, --task.*, --set, --seeds) goes over what is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from tasks.base import Task
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd

SEEDS = (0, 1, 2)
BUNDLED: tuple[Task, ...] = (Pokemon(), EndToEnd())

Study = Callable[..., list[RunConfig]]


def rank(seeds: Sequence[int] = SEEDS) -> list[RunConfig]:
    """LoRA at ranks 1, 2, 4, 8 and 16 against full fine-tuning: how much rank does it take?

    Command: python -m experiments.sweep --study rank --jobs 2 (both tasks; sd-pokemon alone: TASK before --study)
    Time: not yet measured
    Outcome: not yet measured
    """
    arms = [*(Lora(rank=rank) for rank in (1, 2, 4, 8, 16)), FullFinetuning()]
    return [RunConfig(arm, task, Train(seed=seed)) for task in BUNDLED for seed in seeds for arm in arms]


STUDIES: Mapping[str, Study] = {"rank": rank}
