"""The training loop for the parts of the bundled bases: resumable, logged, with a moving average of the weights.

It is separate from `experiments/training`, which trains adapters: users run that one, only maintainers run this one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from tasks.atomic import replacing


@dataclass(frozen=True)
class Recipe:
    """How one part is trained: AdamW, linear warmup, cosine decay to a twentieth, EMA, bf16 autocast."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup_steps: int = 100
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    checkpointing_steps: int = 200
    bf16: bool = True


def pretrain(
    model: nn.Module,
    loss_of_step: Callable[[int], Tensor],
    recipe: Recipe,
    folder: Path,
    probe: Callable[[], dict[str, float]] | None = None,
    averager: Callable[[nn.Module], None] | None = None,
    writes: bool = True,
) -> float:
    """Train `model` in place and leave the averaged weights in it. Returns the seconds spent in all sessions.

    `loss_of_step(step)` draws its data from the step's number alone, so that a resumed build sees the same data as an
    uninterrupted one. `probe` returns figures for the log. `averager` averages gradients over processes, of which one
    `writes` the checkpoint and the log: `folder/checkpoint.pt`, which the caller removes once the part is exported,
    and `folder/log.jsonl`.
    """
    from diffusers.training_utils import EMAModel

    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.99)
    )
    schedule = _warmup_then_cosine(optimizer, recipe)
    ema = EMAModel(model.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=3 / 4)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": ema}
    start, spent = _resume(folder / "checkpoint.pt", parts)
    started = time.monotonic()
    bar = tqdm(
        range(start, recipe.steps),
        initial=start,
        total=recipe.steps,
        desc=folder.name,
        mininterval=5,
        disable=not writes,
    )
    for step in bar:
        torch.manual_seed(step)
        # at these sizes, the CPU's fused bf16 attention is ten times slower than two matrix products
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bf16), sdpa_kernel(SDPBackend.MATH):
            loss = loss_of_step(step)
        loss.backward()
        if averager is not None:
            averager(model)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.step(model.parameters())
        if writes and ((step + 1) % recipe.checkpointing_steps == 0 or step + 1 == recipe.steps):
            seconds = spent + time.monotonic() - started
            _log(folder / "log.jsonl", step + 1, loss, seconds, _probed(model, ema, probe))
            _save(folder / "checkpoint.pt", parts, step + 1, seconds)
    ema.copy_to(model.parameters())
    return spent + time.monotonic() - started


def channels_last(model: Any) -> Any:
    """The model with the memory layout that the CPU's fast convolution kernels need."""
    return model.to(memory_format=torch.channels_last)


def _warmup_then_cosine(optimizer: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / recipe.warmup_steps, total_iters=recipe.warmup_steps)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, recipe.steps - recipe.warmup_steps, eta_min=recipe.learning_rate / 20
    )
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], [recipe.warmup_steps])


def _probed(model: nn.Module, ema, probe: Callable[[], dict[str, float]] | None) -> dict[str, float]:
    """The probe's figures for the averaged weights."""
    if probe is None:
        return {}
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    model.eval()
    with torch.no_grad():
        figures = probe()
    model.train()
    ema.restore(model.parameters())
    return figures


def _log(file: Path, step: int, loss: Tensor, seconds: float, figures: dict[str, float]) -> None:
    line = {"step": step, "loss": round(loss.item(), 5), "seconds": round(seconds, 1), **figures}
    with file.open("a") as log:
        log.write(json.dumps(line) + "\n")


def _save(file: Path, parts: dict, step: int, seconds: float) -> None:
    states = {name: part.state_dict() for name, part in parts.items()}
    with replacing(file) as temporary:
        torch.save({"step": step, "seconds": seconds, **states}, temporary)


def _resume(file: Path, parts: dict) -> tuple[int, float]:
    if not file.exists():
        return 0, 0.0
    saved = torch.load(file, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["step"], saved["seconds"]
