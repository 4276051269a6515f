"""Named studies: each function returns the run configurations of one question, and says what came out.

This file is data: the one place in `experiments` that names methods and tasks. What a command line gives beside
`--study NAME` (--task.*, --train.*, --set, --seeds) goes over what is written here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from adapters.base import Adapter
from adapters.bottleneck import Bottleneck
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from adapters.subspace import Subspace
from experiments.config import RunConfig, Train
from tasks.base import Task
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd

SEEDS = (0, 1, 2)
BUNDLED: tuple[Task, ...] = (Pokemon(), EndToEnd())

Study = Callable[[Sequence[int] | None], list[RunConfig]]


def rank(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """How much rank does it take? LoRA at ranks 1, 2, 4, 8 and 16 against full fine-tuning, on both bundled bases.

    Command: python -m experiments.sweep --study rank --jobs 2
    One task: python -m experiments.sweep sd-pokemon --study rank --jobs 2
    Time: sd-pokemon's 18 runs 25 minutes on two cores; 16 of e2e's 18 took 69 minutes beside much other work
    Outcome: sd-pokemon, KID x1000 over ranks 996 849 716 610 619, full 472 (untuned 1810; 500 prompts, three seeds);
    e2e, BLEU over ranks 44.1 54.9 62.6 64.8 66.8, full 67.3 (untuned 12.6; 60 items, three seeds)
    """
    arms = [*(Lora(rank=rank) for rank in (1, 2, 4, 8, 16)), FullFinetuning()]
    return crossed(BUNDLED, seeds or SEEDS, arms)


def methods(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Which method buys most for its cost? Every method at three sizes, on both bundled bases.

    A size means another thing to every method: read the outcome over trained parameters, bytes or time. Rates are
    the card's; for a comparison beyond habit add --search-lr 5.

    Command: python -m experiments.sweep --study methods --jobs 2
    Time: not yet measured
    Outcome: not yet measured
    """
    arms: list[Adapter] = [
        *(Lora(rank=rank) for rank in (1, 4, 16)),
        *(Bottleneck(width=width) for width in (1, 4, 16)),
        *(PrefixTuning(length=length) for length in (1, 4, 16)),
        *(Subspace(dimension=dimension) for dimension in (1_000, 10_000, 100_000)),
        *(PeftMethod(method="hira", options=f'{{"r": {rank}}}') for rank in (1, 4, 16)),
        FullFinetuning(),
    ]
    return crossed(BUNDLED, seeds or SEEDS, arms)


def paper_e2e(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Does the testbed reproduce LoRA's Table 3? GPT-2 Medium and Large on E2E (Hu et al. 2021); for a GPU.

    All rows take the recipe of the paper's Table 11; dropout 0.1 is GPT-2's own. (The paper took its rows for full
    fine-tuning, FT-Top2 and PreLayer from earlier work, with settings of their own.) Adapter^L is one bottleneck a
    block with a layer norm (Lin et al. 2020), Adapter^H Houlsby's two. PreLayer has the length whose 2 L d parameters a
    position come nearest to the printed count. Gradients are clipped at norm 1, as everywhere here; the paper's code
    does not clip. The data are the official files in a folder, or the hub's copy where that can be loaded.

    Command: python -m experiments.sweep e2e --study paper-e2e --task.data FOLDER --train.device cuda
    Time: not yet measured
    Outcome: not yet measured; to be held against BLEU 68.2, 66.3, 68.9, 67.3, 68.1, 69.7, 70.4 (Medium, in the order
    below) and 68.5, 69.1, 68.9, 70.3, 70.4 (Large)
    """
    lora = Lora(rank=4, alpha=32, dropout=0.1, targets=("query", "value"))
    tables: dict[str, list[Adapter]] = {
        "gpt2-medium": [
            FullFinetuning(),  # 354.92M
            adapter_l(6),  # 0.37M
            adapter_l(224),  # 11.09M
            Bottleneck(width=112),  # 11.09M
            FullFinetuning(top_blocks=2),  # 25.19M
            PrefixTuning(length=7),  # 0.35M
            lora,  # 0.35M
        ],
        "gpt2-large": [
            FullFinetuning(),  # 774.03M
            adapter_l(8),  # 0.88M
            adapter_l(248),  # 23.00M
            PrefixTuning(length=8),  # 0.77M
            lora,  # 0.77M
        ],
    }
    train = Train(
        steps=26_290, batch_size=8, learning_rate=2e-4, lr_scheduler="linear", warmup_steps=500, weight_decay=0.01
    )
    whole = {
        "test_items": 1_000,
        "num_beams": 10,
        "length_penalty": 0.9,
        "no_repeat_ngram_size": 4,
        "label_smoothing": 0.1,
    }
    return [
        config
        for base, arms in tables.items()
        for config in crossed([EndToEnd(base=base, data="tuetschek/e2e_nlg", **whole)], seeds or SEEDS, arms, train)
    ]


def adapter_l(width: int) -> Bottleneck:
    """The paper's Adapter^L: one bottleneck a block, after the feed-forward, with a layer norm of its own."""
    return Bottleneck(width=width, placement="pfeiffer", layer_norm=True, activation="relu")


def paper_sd(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """What does the tutorial's LoRA do today? Stable Diffusion 2.1 on captioned Pokemon pictures; for a GPU.

    The recipe of diffusers' text-to-image tutorial: 512 pixels, batch 1, 100 epochs (of 833 pictures) at 1e-4 without
    warm-up, fp16, seed 42, a checkpoint each 5,000 steps, rank 4 on attention's four matrices; sampled with
    DPM-Solver++ in 25 steps. Its dataset and its model are gone from the hub under their old names.

    Command: python -m experiments.sweep sd-pokemon --study paper-sd --train.device cuda
    Time: not yet measured
    Outcome: not yet measured
    """
    task = Pokemon(base="sd-2-1", data="pokemon", resolution=512, num_inference_steps=25, guidance_scale=7.5)
    train = Train(
        steps=83_300,
        batch_size=1,
        learning_rate=1e-4,
        lr_scheduler="constant",
        warmup_steps=0,
        mixed_precision="fp16",
        checkpointing_steps=5_000,
    )
    return crossed([task], seeds or (42,), [Lora(rank=4, targets=("attention",))], train)


def crossed(
    tasks: Sequence[Task], seeds: Sequence[int], arms: Sequence[Adapter], train: Train | None = None
) -> list[RunConfig]:
    """Every arm on every task with every seed; the first seed of all arms comes first."""
    settings = train or Train()
    return [
        RunConfig(arm, task, replace(settings, seed=seed)) for task, seed, arm in itertools.product(tasks, seeds, arms)
    ]


STUDIES: Mapping[str, Study] = {
    "rank": rank,
    "methods": methods,
    "paper-e2e": paper_e2e,
    "paper-sd": paper_sd,
}
