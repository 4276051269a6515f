"""Named studies: each function returns the run configurations that answer one question; its docstring has the outcome.

This file and `paper_studies` are data that `experiments.sweep` reads, and apart from `papers/` the only code in
`experiments` that names methods and tasks. Options given with `--study NAME` (--task.*, --train.*, --set, --seeds)
override the settings below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from adapters.backbone import Backbone
from adapters.base import Adapter
from adapters.bottleneck import Bottleneck
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from adapters.subspace import Subspace
from experiments.config import RunConfig
from experiments.sweeping.grid import SEEDS, crossed
from experiments.sweeping.named_grids import placements
from experiments.sweeping.paper_studies import paper_e2e, paper_sd
from tasks.base import Task
from tasks.diffusion.planted import PlantedDenoiser
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd
from tasks.language.facts import Facts
from tasks.language.planted import Planted

BUNDLED: tuple[Task, ...] = (Pokemon(), EndToEnd())
PLANTED: tuple[Task, ...] = (PlantedDenoiser(), Planted())

Study = Callable[[Sequence[int] | None], list[RunConfig]]


def rank(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """How high must the rank be? LoRA at ranks 1, 2, 4, 8 and 16 against full fine-tuning, on both bundled bases.

    Alpha is 16 at every rank; --set lora.alpha=rank repeats it with the other convention. Rates are those that a
    search on the base has found, or --search-lr 5 finds.

    Command: python -m experiments.sweep --study rank --search-lr 5 --jobs 2
    One task: python -m experiments.sweep sd-pokemon --study rank --jobs 2
    Time: 47 minutes for the 18 runs of e2e at the base's rates on two cores; sd-pokemon not yet measured
    Outcome: e2e: slot accuracy by rank .480 .583 .664 .701 .712, full .763 (untuned .080; 60 meanings, three seeds):
    every rank is significantly worse than full. sd-pokemon: not yet measured at tuned rates; with alpha = rank and one
    rate for all ranks, KID x1000 by rank 996 849 716 610 619, full 472 (untuned 1810; 500 prompts, three seeds); the
    base of sd-pokemon then drew at 32 pixels
    """
    ranks = (1, 2, 4, 8, 16)
    return crossed(BUNDLED, seeds or SEEDS, [*(Lora(rank=rank) for rank in ranks), FullFinetuning()])


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


def planted(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Is a known answer found? LoRA below, at and above the rank of a planted update, and full, on both bundled bases.

    The teacher is the base plus a random update of rank 4 of the last feed-forward layer, which LoRA then adapts.
    `recovered` must bend at rank 4: r / 4 or somewhat more below it, close to 1 from it on. All seeds share a teacher;
    --vary task.teacher-seed 0 1 2 draws others. The same question without training again, by truncated SVD: python -m
    experiments.truncate RUN --ranks 1 2 4 8 on a run of rank 16.

    Command: python -m experiments.sweep --study planted --search-lr 5 --jobs 2
    The bend alone: python -m experiments.intrinsic lora planted
    Time: 7 to 11 minutes a run of gpt-mini on one of two cores; sd-planted not yet measured
    Outcome: gpt-mini: recovered .366 .633 .825 .998 .998 .998 .998 at ranks 1 2 3 4 6 8 16, full .788 (three
    seeds); the rank-16 run of one seed truncated to ranks 1 to 4 .281 .526 .737 .998; 48 parts of the test, gpt-mini's
    own tokens. sd-planted not yet measured
    """
    ranks = (1, 2, 3, 4, 6, 8, 16)
    return crossed(PLANTED, seeds or SEEDS, [*(Lora(rank=rank) for rank in ranks), FullFinetuning()])


def facts(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """How many bits does an adapter store per trained parameter? LoRA, bottleneck and full, on ever more random facts.

    Bits recalled grow with the number of pairs until the adapter is full; every run sees each pair equally often, 200
    times. LoRA adapts all linear layers. The pairs hold half a bit and one bit for each of the adapter's parameters,
    and two bits for LoRA r=1 and the bottleneck, whose runs are short. Full fine-tuning has 55 to 220 times as many
    parameters as LoRA and only 304 pairs, so that its figure is a lower bound.
    `python -m reports peak facts --over task.pairs --metric bits_per_parameter` shows the largest figure of each, which
    is a lower bound if it is that of the most pairs. For scale: about 1 bit per parameter for knowledge seen 100 times
    and 2 bits for 1,000 times (Allen-Zhu & Li 2024), up to 3.6 for random strings (Morris et al. 2025), all of whole
    models.

    Command: python -m experiments.sweep --study facts --jobs 2
    Time: not yet measured
    Outcome: not yet measured
    """
    adapters: list[Adapter] = [*(Lora(rank=rank) for rank in (1, 2, 4)), Bottleneck(width=1)]
    backbone = Facts().meta_model().backbone
    configs = []
    for adapter in adapters:
        bits_each = (0.5, 1, 2) if adapter in (Lora(rank=1), Bottleneck(width=1)) else (0.5, 1)
        tasks = [Facts(pairs=pairs_of_bits(adapter, backbone, bits)) for bits in bits_each]
        configs += crossed(tasks, seeds or SEEDS, [adapter])
    return configs + crossed([Facts(pairs=304)], seeds or SEEDS, [FullFinetuning()])


def pairs_of_bits(adapter: Adapter, backbone: Backbone, bits: float) -> int:
    """The number of pairs that hold about so many bits for each parameter that the adapter trains: of whole batches, so
    that each pair is seen once in an epoch."""
    parameters = adapter.parameter_count(backbone)
    assert parameters is not None, "the study's adapters have a formula"
    batch = Facts().recommended(adapter.name)["batch_size"]
    return batch * max(1, round(bits * parameters / Facts().facts.bits / batch))


def placement(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Which layers deserve the parameters? LoRA on attention, on feed-forward layers and on both, at equal parameters.

    The ranks are those that train the number of parameters closest to LoRA's default rank on attention and feed-forward
    layers together, on each of the bundled bases.

    Command: python -m experiments.sweep --study placement --search-lr 5 --jobs 2
    Time: not yet measured
    Outcome: not yet measured
    """
    placed = {task: placements(Lora(), task.meta_model().backbone) for task in BUNDLED}
    return [config for task, adapters in placed.items() for config in crossed([task], seeds or SEEDS, adapters)]


def length(seeds: Sequence[int] | None = None) -> list[RunConfig]:
    """Does the order hold after longer training? LoRA r=1, r=16 and full at the card's steps and at four times as many.

    The runs at the card's steps are those of the study `rank`.

    Command: python -m experiments.sweep --study length --search-lr 5 --jobs 2
    Time: not yet measured
    Outcome: not yet measured
    """
    adapters = [Lora(rank=1), Lora(rank=16), FullFinetuning()]
    return [config for task in BUNDLED for times in (1, 4) for config in trained_longer(task, seeds, adapters, times)]


def trained_longer(task: Task, seeds: Sequence[int] | None, adapters: Sequence[Adapter], times: int) -> list[RunConfig]:
    """The adapters on the task, with `times` as many steps as its base's card recommends."""
    configs = crossed([task], seeds or SEEDS, adapters)
    if times == 1:
        return configs
    steps = [config.resolved().train.steps or 0 for config in configs]
    assert all(steps), "the cards of the bundled bases give steps"
    return [
        replace(config, train=replace(config.train, steps=times * count))
        for config, count in zip(configs, steps, strict=True)
    ]


STUDIES: Mapping[str, Study] = {
    "rank": rank,
    "methods": methods,
    "planted": planted,
    "facts": facts,
    "placement": placement,
    "length": length,
    "paper-e2e": paper_e2e,
    "paper-sd": paper_sd,
}
