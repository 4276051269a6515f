"""Named studies: each function returns the run configurations that answer one question; its docstring has the outcome.

This file is data that `experiments.sweep` reads, and apart from `papers/` the only code in `experiments` that names
methods and tasks. Options given with `--study NAME` (--task.*, --train.*, --set, --seeds) override the settings
below.
"""

from __future__ import annotations

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
from experiments.sweeping.grid import crossed
from tasks.base import Task
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd

SEEDS = (0, 1, 2)
BUNDLED: tuple[Task, ...] = (Pokemon(), EndToEnd())

Study = Callable[[Sequence[int] | None], list[RunConfig]]


def rank(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """How high must the rank be? LoRA at ranks 1, 2, 4, 8 and 16 against full fine-tuning, on both bundled bases.

    LoRA once with alpha fixed and once with alpha = rank, each at its own rates: the base's search has found them, or
    --search-lr 5 does.

    Command: python -m experiments.sweep --study rank --jobs 2
    One task: python -m experiments.sweep sd-pokemon --study rank --jobs 2
    Time: estimated from half of the runs, 45 minutes for sd-pokemon's 33 runs on two cores, two hours for e2e's
    Outcome: not yet measured at tuned rates; with alpha = rank and one rate for all ranks: sd-pokemon, KID x1000 by
    rank 996 849 716 610 619, full 472 (untuned 1810; 500 prompts, three seeds); e2e, BLEU by rank 44.1 54.9 62.6 64.8
    66.8, full 67.3 (untuned 12.6; 60 items, three seeds)
    """
    ranks = (1, 2, 4, 8, 16)
    adapters = [*(Lora(rank=rank) for rank in ranks), *(Lora(rank=rank, alpha="rank") for rank in ranks)]
    return crossed(BUNDLED, seeds or SEEDS, [*adapters, FullFinetuning()])


def methods(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Which method gives the best quality for its cost? Every method at three sizes, on both bundled bases.

    Sizes are not comparable between methods: compare by trained parameters, bytes or time. Learning rates are those
    that a search on the base has found, else of its card; add --search-lr 5 to tune them for every method alike.

    Command: python -m experiments.sweep --study methods --jobs 2
    Time: not yet measured
    Outcome: not yet measured
    """
    adapters: list[Adapter] = [
        *(Lora(rank=rank) for rank in (1, 4, 16)),
        *(Bottleneck(width=width) for width in (1, 4, 16)),
        *(PrefixTuning(length=length) for length in (1, 4, 16)),
        *(Subspace(dimension=dimension) for dimension in (1_000, 10_000, 100_000)),
        *(PeftMethod(method="hira", options={"r": rank}) for rank in (1, 4, 16)),
        FullFinetuning(),
    ]
    return crossed(BUNDLED, seeds or SEEDS, adapters)


def adapter_l(width: int) -> Bottleneck:
    """The paper's Adapter^L: one bottleneck per block, after the feed-forward layer, with its own layer norm."""
    return Bottleneck(width=width, placement="pfeiffer", layer_norm=True, activation="relu")


PAPERS_LORA = Lora(rank=4, alpha=32, dropout=0.1, targets=("query", "value"))
TABLE_3: dict[str, list[Adapter]] = {
    "gpt2-medium": [
        FullFinetuning(),  # 354.92M
        adapter_l(6),  # 0.37M
        adapter_l(224),  # 11.09M
        Bottleneck(width=112),  # 11.09M
        FullFinetuning(top_blocks=2),  # 25.19M
        PrefixTuning(length=7),  # 0.35M
        PAPERS_LORA,  # 0.35M
    ],
    "gpt2-large": [
        FullFinetuning(),  # 774.03M
        adapter_l(8),  # 0.88M
        adapter_l(248),  # 23.00M
        PrefixTuning(length=8),  # 0.77M
        PAPERS_LORA,  # 0.77M
    ],
}
TABLE_11_TRAIN = Train(
    steps=26_290, batch_size=8, learning_rate=2e-4, lr_scheduler="linear", warmup_steps=500, weight_decay=0.01
)
TABLE_11_TASK = EndToEnd(
    data="tuetschek/e2e_nlg",
    test_items=1_000,
    num_beams=10,
    length_penalty=0.9,
    no_repeat_ngram_size=4,
    label_smoothing=0.1,
)


def paper_e2e(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Does the testbed reproduce LoRA's Table 3? GPT-2 Medium and Large on E2E (Hu et al. 2021); for a GPU.

    All rows use the settings of the paper's Table 11; dropout 0.1 is GPT-2's own. (The paper quotes its rows for full
    fine-tuning, FT-Top2 and PreLayer from earlier work with other settings.) Adapter^L is one bottleneck per block
    with a layer norm (Lin et al. 2020), Adapter^H is Houlsby's two. PreLayer has the length whose 2 L d parameters per
    position are closest to the printed count. Gradients are clipped at norm 1, as everywhere here; the paper's code
    does not clip. The data are the official files in a folder, or the hub's copy if it can be loaded.

    Command: python -m experiments.sweep e2e --study paper-e2e --task.data FOLDER --train.device cuda
    Time: not yet measured
    Outcome: not yet measured; the paper has BLEU 68.2, 66.3, 68.9, 67.3, 68.1, 69.7, 70.4 (Medium, in the order
    of TABLE_3) and 68.5, 69.1, 68.9, 70.3, 70.4 (Large)
    """
    return [
        config
        for base, adapters in TABLE_3.items()
        for config in crossed([replace(TABLE_11_TASK, base=base)], seeds or SEEDS, adapters, TABLE_11_TRAIN)
    ]


def paper_sd(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """What does the tutorial's LoRA achieve today? Stable Diffusion 2.1 on captioned Pokemon pictures; for a GPU.

    The settings of diffusers' text-to-image tutorial: 512 pixels, batch 1, 100 epochs (of 833 pictures) at 1e-4 without
    warmup, fp16, seed 42, a checkpoint every 5,000 steps, rank 4 and alpha = rank on attention's four matrices, A drawn
    with deviation 1 / rank, weight decay .01; sampled with DPM-Solver++ in 25 steps. Its dataset and its model have
    left the hub under their old names.

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
        weight_decay=0.01,
        mixed_precision="fp16",
        checkpointing_steps=5_000,
    )
    adapter = Lora(rank=4, alpha="rank", targets=("attention",), init_lora_weights="gaussian")
    return crossed([task], seeds or (42,), [adapter], train)


STUDIES: Mapping[str, Study] = {
    "rank": rank,
    "methods": methods,
    "paper-e2e": paper_e2e,
    "paper-sd": paper_sd,
}
