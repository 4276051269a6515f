"""Check what the LoRA paper and diffusers' guides claim: each claim beside our figure, with a verdict.

Figures are counted or predicted on models without weights, or read from run records. Like
`experiments.sweeping.studies`, this file names methods: the claims are about LoRA and full fine-tuning.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.papers.configurations import Configurations
from experiments.papers.recorded_runs import FULL, LORA, RecordedRuns

MIB = 2**20
RANK_1 = {"field": "rank", "value": 1}
SUFFICIENT = 0.9  # share of full fine-tuning's gain over the untuned base
NEGLIGIBLE = 0.01  # latency of a merged adapter beyond the base's, as a share, that counts as none
NOT_MEASURED = "not measured yet"
PAPER_COMMAND = "python -m experiments.paper"
RUN_COMMANDS = "python -m experiments.run full sd-pokemon; python -m experiments.run lora sd-pokemon --adapter.rank 1"


@dataclass(frozen=True)
class Claim:
    """One claim: its source, our figure, how it was obtained, the command that reproduces it, and a verdict."""

    source: str
    claim: str
    ours: str
    how: str  # counted, predicted, measured, counted and measured, or NOT_MEASURED
    command: str
    verdict: str
    left_out: str = ""  # runs that were not compared, with the reasons

    def as_record(self) -> dict[str, str]:
        return asdict(self)


class Claims:
    """All claims, checked with the numbers of the data file and the records below `runs`."""

    def __init__(self, data: Mapping[str, Any], runs: Path):
        self.data, self.configs, self.recorded = data, Configurations(data["runs"]), RecordedRuns(runs)

    def all(self) -> list[Claim]:
        return [*self.paper(), *self.guides()]

    def paper(self) -> Iterator[Claim]:
        """The LoRA paper's abstract and section 4.2."""
        source, numbers = "LoRA, GPT-3 175B", self.data["gpt-3"]
        trained = next(row["by_formula"] for row in self.data["counts"] if row["where"] == numbers["counted_in"])
        size, fewer = 2 * trained / MIB, numbers["parameters"] / trained
        text = f"{trained:,} parameters of 2 bytes: {size:.1f} MiB"
        verdict = "holds" if abs(size / numbers["checkpoint_mb"] - 1) < 0.05 else "does not hold"
        yield Claim(source, f"a checkpoint of {numbers['checkpoint_mb']} MB", text, "counted", PAPER_COMMAND, verdict)
        text = f"{numbers['parameters']:,} / {trained:,} = {fewer:,.0f}"
        verdict = "holds, rounded up" if fewer > 0.9 * numbers["times_fewer"] else "does not hold"
        claim = f"{numbers['times_fewer']:,} times fewer parameters"
        yield Claim(source, claim, text, "counted", PAPER_COMMAND, verdict)
        yield self.less_memory(source)
        times = numbers["tokens_per_second_lora"] / numbers["tokens_per_second_full"]
        claim = f"{numbers['percent_faster']} % faster training ({times:.2f} times the tokens per second)"
        yield self.faster(source, claim, times)

    def less_memory(self, source: str) -> Claim:
        """Predicted memory of a step, full fine-tuning over LoRA."""
        numbers = self.data["gpt-3"]
        printed = numbers["memory_full_bytes"] / numbers["memory_lora_bytes"]
        one, eight = (self.configs.peak(f"gpt full {n}") / self.configs.peak(f"gpt lora {n}") for n in (1, 8))
        text = f"GPT-2 M, 512 tokens, full / LoRA: {one:.2f} at batch 1, {eight:.2f} at batch 8"
        holds = min(one, eight) >= numbers["times_less_memory"]
        verdict = "holds" if holds else "less here, because activations remain"
        claim = f"{numbers['times_less_memory']} times less memory (1.2 TB to 350 GB: {printed:.2f})"
        return Claim(source, claim, text, "predicted", self.configs.plan_command("gpt lora 1"), verdict)

    def faster(self, source: str, claim: str, times: float) -> Claim:
        """Measured seconds per step, full fine-tuning over LoRA, for runs with the same task, base and settings."""
        pairs = self.recorded.compare(
            lambda record: record["seconds"]["step_median"],
            lambda record: f"{record.get('device')}, {record['config']['train']['mixed_precision']} autocast",
        )
        ratios = {
            label: statistics.median(values[FULL]) / statistics.median(values[LORA])
            for label, values in pairs.values.items()
        }
        if not ratios:
            return self.not_measured(source, claim, pairs.left_out_text)
        text = "full / LoRA: " + ", ".join(f"{ratio:.2f} on {label}" for label, ratio in ratios.items())
        verdict = "holds" if min(ratios.values()) >= times else "less here"
        command = "python -m reports table TASK"
        return Claim(source, claim, text, "measured", command, verdict, pairs.left_out_text)

    def guides(self) -> Iterator[Claim]:
        """diffusers' guides to LoRA, for Stable Diffusion 2.1 at 512 pixels."""
        source, numbers = "diffusers' LoRA guide", self.data["tutorial"]
        lora, full = self.configs.plans["sd lora"], self.configs.plans["sd full"]
        command = self.configs.plan_command("sd lora")
        size = list(lora.prediction.files.values())[-1]
        verdict = "holds" if round(size / 1e6) == numbers["file_mb"] else "does not hold"
        text = f"{size:,} bytes, fp32, including alpha and ranks"
        yield Claim(source, f"about {numbers['file_mb']} MB", text, "counted", command, verdict)
        card = numbers["card_gb"]
        text = f"{lora.needed:.1f} GiB, allowances included; full fine-tuning {full.needed:.1f}"
        verdict = "holds" if lora.needed < card else "does not hold"
        yield Claim(source, f"trains on less than {card} GB", text, "predicted", command, verdict)
        yield self.low_rank(source)
        yield self.compute(source)
        sent, sent_by_full = (4 * result.prediction.trainable for result in (lora, full))
        text = f"{sent:,} bytes per step and process instead of {sent_by_full:,}: {sent_by_full / sent:,.0f} times less"
        yield Claim(source, "communication is reduced", text, "counted", command, "holds")
        yield self.merged(source)
        yield self.positions()

    def low_rank(self, source: str) -> Claim:
        """Rank 1's share of full fine-tuning's gain over the base in the primary metric."""
        claim = "a rank as low as 1 suffices"
        pairs = self.recorded.compare(
            _gain, lambda record: record["primary_metric"], lambda record: record["size"] == RANK_1
        )
        shares = {
            label: statistics.mean(gains[LORA]) / statistics.mean(gains[FULL])
            for label, gains in pairs.values.items()
            if statistics.mean(gains[FULL])
        }
        if not shares:
            return self.not_measured(source, claim, pairs.left_out_text)
        text = "rank 1 reaches " + ", ".join(
            f"{share:.0%} of full's gain on {label}" for label, share in shares.items()
        )
        verdict = "holds" if min(shares.values()) >= SUFFICIENT else f"does not hold: below {SUFFICIENT:.0%}"
        command = "python -m reports table TASK --by rank"
        return Claim(source, claim, text, "measured", command, verdict, pairs.left_out_text)

    def compute(self, source: str) -> Claim:
        """FLOPs of a step, LoRA over full fine-tuning."""
        lora, full = self.configs.step_flops("sd lora"), self.configs.step_flops("sd full")
        forward, step = lora.forward / full.forward, lora.total / full.total
        text = f"LoRA / full: forward {forward:.3f}, whole step {step:.3f}"
        verdict = "holds for the forward pass; the weights' gradients, about a third of the step, are saved"
        if not (forward >= 1 and 0.6 < step < 0.75):
            verdict = "see the figures"
        return Claim(source, "computation is not reduced", text, "counted", PAPER_COMMAND, verdict)

    def merged(self, source: str) -> Claim:
        """Cost of a merged adapter at inference: FLOPs, and measured latencies if there are any."""
        base, unmerged, merged = self.configs.forward_flops("sd lora")
        text = f"FLOPs of a forward pass: merged / base {merged / base:.4f}, unmerged / base {unmerged / base:.4f}"
        verdict = "holds for arithmetic" if merged == base else "does not hold"
        how, command = "counted", f"{PAPER_COMMAND}; seconds: python -m experiments.costs sd-pokemon"
        if self.recorded.latencies:
            how = "counted and measured"
            text += "; seconds, merged / base: " + ", ".join(
                f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] on {label}, n={ratio['n']} rounds"
                for label, ratio in self.recorded.latencies.items()
            )
            verdict = latency_verdict(self.recorded.latencies.values()) if merged == base else "does not hold"
        return Claim(source, "merged it costs nothing", text, how, command, verdict)

    def positions(self) -> Claim:
        """How many positions of the model a prefix leaves for input."""
        config = self.configs.resolved("gpt prefix")
        backbone = config.task.meta_model().backbone
        left: Any = config.adapter.attach(backbone).facts["positions_left"]
        text = f"{left:,} of {backbone.positions:,} positions are left to GPT-2 M"
        verdict = "holds" if backbone.positions and left < backbone.positions else "does not hold"
        command = self.configs.plan_command("gpt prefix")
        return Claim("LoRA, section 3", "a prefix shortens the input", text, "counted", command, verdict)

    def not_measured(self, source: str, claim: str, left_out: str = "") -> Claim:
        return Claim(source, claim, NOT_MEASURED, NOT_MEASURED, RUN_COMMANDS, "open", left_out)


def latency_verdict(ratios: Collection[Mapping[str, float]]) -> str:
    """Whether the latency is that of the base: no if an interval lies above 1 + NEGLIGIBLE, yes if none reaches it."""
    if any(ratio["low"] > 1 + NEGLIGIBLE for ratio in ratios):
        return "does not hold"
    if all(ratio["high"] <= 1 + NEGLIGIBLE for ratio in ratios):
        return "holds"
    return f"open: an interval reaches past {1 + NEGLIGIBLE:g}; measure more --rounds"


def _gain(record: Mapping[str, Any]) -> float | None:
    """The primary metric's change from the untuned base; None without a base value."""
    figure = record["metrics"][record["primary_metric"]]
    return None if figure.get("base") is None else figure["value"] - figure["base"]
