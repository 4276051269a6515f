"""What papers and guides claim of LoRA, beside our own figures: counted, predicted, or read from run records."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig, Train
from experiments.costs import FILE as COSTS
from experiments.papers.parameter_counts import adapter_of
from experiments.plan import PlanOptions, make
from experiments.records.folder import RunFolder
from tasks.base import registry as task_registry

if TYPE_CHECKING:
    from experiments.plan import Plan

MIB = 2**20
ENOUGH = 0.9  # of full fine-tuning's gain over the base: the share that defines the intrinsic dimension d90
NOTHING = 0.01  # of the base's seconds: what a merged adapter may cost and still cost nothing
NOT_MEASURED = "not measured yet"
THIS = "python -m experiments.paper"


@dataclass(frozen=True)
class Claim:
    """One claim: who makes it, our figure, how it was had, the command that gives it, and a verdict."""

    source: str
    claim: str
    ours: str
    how: str  # counted, predicted, measured, counted and measured, or NOT_MEASURED
    command: str
    verdict: str

    def as_record(self) -> dict[str, str]:
        return asdict(self)


class Claims:
    """All claims, from the numbers of the data file and the records below `runs`."""

    def __init__(self, data: Mapping[str, Any], runs: Path):
        self.data, self.runs, self.records = data, runs, finished(runs)

    def all(self) -> list[Claim]:
        return [*self.headlines(), *self.tutorial()]

    def headlines(self) -> Iterator[Claim]:
        """LoRA's abstract and section 4.2."""
        source, numbers = "LoRA, GPT-3 175B", self.data["gpt-3"]
        trained = next(row["by_formula"] for row in self.data["counts"] if row["where"] == numbers["counted_in"])
        size, fewer = 2 * trained / MIB, numbers["parameters"] / trained
        text = f"{trained:,} parameters of 2 bytes: {size:.1f} MiB"
        verdict = "holds" if abs(size / numbers["checkpoint_mb"] - 1) < 0.05 else "does not hold"
        yield Claim(source, f"a checkpoint of {numbers['checkpoint_mb']} MB", text, "counted", THIS, verdict)
        text = f"{numbers['parameters']:,} / {trained:,} = {fewer:,.0f}"
        verdict = "holds, rounded up" if fewer > 0.9 * numbers["times_fewer"] else "does not hold"
        yield Claim(source, f"{numbers['times_fewer']:,} times fewer parameters", text, "counted", THIS, verdict)
        yield self.less_memory(source)
        theirs = numbers["tokens_per_second_lora"] / numbers["tokens_per_second_full"]
        claim = f"{numbers['percent_faster']} % faster training ({theirs:.2f} times the tokens a second)"
        yield self.faster(source, claim, theirs)

    def less_memory(self, source: str) -> Claim:
        numbers = self.data["gpt-3"]
        theirs = numbers["memory_full_bytes"] / numbers["memory_lora_bytes"]
        one, eight = (self.peak(f"gpt full {n}") / self.peak(f"gpt lora {n}") for n in (1, 8))
        text = f"GPT-2 M, 512 tokens, full / LoRA: {one:.2f} at batch 1, {eight:.2f} at batch 8"
        verdict = "holds" if min(one, eight) >= numbers["times_less_memory"] else "less here: activations stay"
        claim = f"{numbers['times_less_memory']} times less memory (1.2 TB to 350 GB: {theirs:.2f})"
        return Claim(source, claim, text, "predicted", self.command("gpt lora 1"), verdict)

    def faster(self, source: str, claim: str, theirs: float) -> Claim:
        """A step's seconds, full over LoRA, in runs of one task, base, batch and precision."""
        seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for record in self.records:
            train, task = record["config"]["train"], record["config"]["task"]
            same = f"{record['task']} ({task.get('base')}, batch {train['batch']}, {train['precision']})"
            seconds[same][record["method"]].append(record["seconds"]["step_median"])
        names = self.data["measured"]
        ratios = {
            same: statistics.median(of[names["full"]]) / statistics.median(of[names["low"]])
            for same, of in seconds.items()
            if {names["full"], names["low"]} <= of.keys()
        }
        if not ratios:
            return self.open(source, claim)
        text = "full / LoRA: " + ", ".join(f"{ratio:.2f} on {same}" for same, ratio in ratios.items())
        verdict = "holds" if min(ratios.values()) >= theirs else "less here"
        return Claim(source, claim, text, "measured", "python -m reports table TASK", verdict)

    def tutorial(self) -> Iterator[Claim]:
        """What diffusers' guides to LoRA say, on Stable Diffusion 2.1 at 512 pixels."""
        source, numbers = "diffusers' LoRA guide", self.data["tutorial"]
        low, full = self.plans["sd lora"], self.plans["sd full"]
        size = list(low.prediction.files.values())[-1]
        verdict = "holds" if round(size / 1e6) == numbers["file_mb"] else "does not hold"
        text = f"{size:,} bytes, fp32, alpha and ranks in the file"
        yield Claim(source, f"about {numbers['file_mb']} MB", text, "counted", self.command("sd lora"), verdict)
        card = numbers["card_gb"]
        text = f"{low.needed:.1f} GiB, allowances included; full fine-tuning {full.needed:.1f}"
        verdict = "holds" if low.needed < card else "does not hold"
        yield Claim(source, f"trains on less than {card} GB", text, "predicted", self.command("sd lora"), verdict)
        yield self.low_rank(source)
        yield self.compute(source)
        sent, whole = (4 * plan.prediction.trainable for plan in (low, full))
        text = f"{sent:,} bytes a step and process instead of {whole:,}: {whole / sent:,.0f} times less"
        yield Claim(source, "communication is reduced", text, "counted", self.command("sd lora"), "holds")
        yield self.merged(source)
        yield self.positions()

    def low_rank(self, source: str) -> Claim:
        """The share of full fine-tuning's gain over the base that rank 1 reaches in the primary_metric metric."""
        names, claim = self.data["measured"], "a rank as low as 1 suffices"
        gains: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for record in self.records:
            figure = record["metrics"][record["primary_metric"]]
            is_low = record["method"] == names["low"] and record["size"] == {"field": names["size_field"], "value": 1}
            if (is_low or record["method"] == names["full"]) and figure.get("base") is not None:
                where = f"{record['task']} ({record['config']['task'].get('base')}, {record['primary_metric']})"
                gains[where][record["method"]].append(figure["value"] - figure["base"])
        shares = {
            where: statistics.mean(of[names["low"]]) / statistics.mean(of[names["full"]])
            for where, of in gains.items()
            if {names["full"], names["low"]} <= of.keys() and statistics.mean(of[names["full"]])
        }
        if not shares:
            return self.open(source, claim)
        text = "rank 1 reaches " + ", ".join(f"{share:.0%} of full's gain on {w}" for w, share in shares.items())
        verdict = "holds" if min(shares.values()) >= ENOUGH else f"does not hold: below {ENOUGH:.0%}"
        return Claim(source, claim, text, "measured", "python -m reports table TASK --by rank", verdict)

    def compute(self, source: str) -> Claim:
        low, full = self.flops("sd lora"), self.flops("sd full")
        forward, step = low.forward / full.forward, low.total / full.total
        text = f"LoRA / full: forward {forward:.3f}, whole step {step:.3f}"
        verdict = "holds for the forward pass; the weights' gradients, about a third of the step, are saved"
        if not (forward >= 1 and 0.6 < step < 0.75):
            verdict = "see the figures"
        return Claim(source, "computation is not reduced", text, "counted", THIS, verdict)

    def merged(self, source: str) -> Claim:
        base, unmerged, merged = self.forward_flops("sd lora")
        text = f"operations of a forward pass: merged / base {merged / base:.4f}, unmerged / base {unmerged / base:.4f}"
        verdict = "holds for arithmetic" if merged == base else "does not hold"
        how, command = "counted", f"{THIS}; seconds: python -m experiments.costs sd-pokemon"
        if self.latencies:
            how = "counted and measured"
            text += "; seconds, merged / base: " + ", ".join(
                f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}] on {where}, n={found['n']} rounds"
                for where, found in self.latencies.items()
            )
            verdict = verdict_of(self.latencies.values()) if merged == base else "does not hold"
        return Claim(source, "merged it costs nothing", text, how, command, verdict)

    @property
    def latencies(self) -> dict[str, dict[str, float]]:
        """Merged LoRA's seconds over the base's, in the records of costs, by task and size."""
        found = {}
        for file in sorted(self.runs.glob(f"*/{self.data['measured']['low']}/*/{COSTS}")):
            record = json.loads(file.read_text())
            where = "{task} ({size[field]} {size[value]})".format_map(record)
            found[where] = record["inference"]["merged"]
        return found

    def positions(self) -> Claim:
        config = self.configuration("gpt prefix")
        backbone = config.task.meta_model().backbone
        left: Any = config.adapter.attach(backbone).facts["positions_left"]
        text = f"{left:,} of {backbone.positions:,} positions are left to GPT-2 M"
        verdict = "holds" if backbone.positions and left < backbone.positions else "does not hold"
        command = self.command("gpt prefix")
        return Claim("LoRA, section 3", "a prefix shortens the input", text, "counted", command, verdict)

    def open(self, source: str, claim: str) -> Claim:
        commands = "; ".join(self.data["measured"]["example"])
        return Claim(source, claim, NOT_MEASURED, NOT_MEASURED, commands, "open")

    def configuration(self, name: str) -> RunConfig:
        run = self.data["runs"][name]
        task = task_registry()[run["task"]](**run["task_settings"])
        return RunConfig(adapter_of(run), task, Train(**run["train"])).resolved()

    @cached_property
    def plans(self) -> Mapping[str, Plan]:
        names = [name for name, run in self.data["runs"].items() if run["planned"]]
        return {name: make(self.configuration(name), PlanOptions()) for name in names}

    def peak(self, name: str) -> int:
        return self.plans[name].prediction.peak

    def command(self, name: str) -> str:
        """The plan's command line for a configuration of the data file."""
        config, words = self.configuration(name), []
        default = RunConfig(type(config.adapter)(), type(config.task)())
        for part in ("adapter", "task"):
            here, usual = getattr(config, part), getattr(default, part)
            for f in fields(here):
                if getattr(here, f.name) != getattr(usual, f.name):
                    words.append(f"--{part}.{f.name.replace('_', '-')} {getattr(here, f.name)}")
        words += [f"--train.{key} {value}" for key, value in self.data["runs"][name]["train"].items()]
        return " ".join(["python -m experiments.plan", config.adapter.name, config.task.name, *words])

    def flops(self, name: str):
        from experiments.measure.flops import count_step

        meta_model, attachment, batch = self.on_meta(name)
        return count_step(lambda: meta_model.loss(batch), attachment.parameters().values())

    def forward_flops(self, name: str) -> tuple[int, int, int]:
        """Of the base, and with the adapter unmerged and merged."""
        from torch import no_grad
        from torch.utils.flop_counter import FlopCounterMode

        meta_model, attachment, batch = self.on_meta(name)

        def count() -> int:
            with no_grad(), FlopCounterMode(display=False) as counter:
                meta_model.loss(batch)
            return counter.get_total_flops()

        with attachment.disabled():
            base = count()
        unmerged = count()
        attachment.merge()
        return base, unmerged, count()

    def on_meta(self, name: str) -> tuple[Any, Any, Any]:
        """MetaModel, attachment and one batch of a configuration, all on the meta device."""
        import torch

        config = self.configuration(name)
        meta_model = config.task.meta_model()
        attachment = config.adapter.attach(meta_model.backbone)
        return meta_model, attachment, meta_model.batch(config.train.batch_size or 1, torch.device("meta"))


def finished(runs: Path) -> list[dict[str, Any]]:
    """The records of all finished runs below `runs/TASK/METHOD/`."""
    found = (RunFolder(file.parent).result() for file in sorted(runs.glob("*/*/*/result.json")))
    return [record for record in found if record is not None and record["status"] == "finished"]


def verdict_of(ratios: Collection[Mapping[str, float]]) -> str:
    """Whether something costs nothing: only where no interval reaches past NOTHING; one that lies on both sides of it
    says neither."""
    if any(ratio["low"] > 1 + NOTHING for ratio in ratios):
        return "does not hold"
    if all(ratio["high"] <= 1 + NOTHING for ratio in ratios):
        return "holds"
    return f"open: an interval reaches past {1 + NOTHING:g}; measure more --rounds"
