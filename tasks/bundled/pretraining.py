"""The training loop for the parts of the bundled bases: resumable, logged, with a moving average of the weights.

It is separate from `experiments/training`, which trains adapters: users run that one, only maintainers run this one.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from tasks.atomic import replacing
from tasks.errors import TaskError

PROCESSES = 2  # for long trainings: on two cores they are faster than two threads of one process
RESULT, ERROR = "result.json", "error.txt"
CHECKPOINT, LOG, START = "checkpoint.pt", "log.jsonl", "start"


@dataclass(frozen=True)
class Recipe:
    """How one part is trained: AdamW, linear warmup, cosine decay to a twentieth, EMA, bf16 autocast.

    On a CPU without AVX-512, whose bf16 is emulated and ten times slower, it computes in fp32.
    """

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
    inputs: str,
    folder: Path,
    probe: Callable[[], dict[str, float]] | None = None,
    averager: Callable[[nn.Module], None] | None = None,
    writes: bool = True,
) -> float:
    """Train `model` in place and leave the averaged weights in it. Returns the seconds spent in all sessions.

    `loss_of_step(step)` draws its data from the step's number alone, so that a resumed build sees the same data as an
    uninterrupted one; `inputs` names all else that the loss depends on, such as a digest of the data: a checkpoint of
    other inputs or of another `Recipe` is refused.
    `probe` returns figures for the log. `averager` averages gradients over processes, of which one `writes` the
    checkpoint and the log: `folder/checkpoint.pt`, which the caller removes once the part is exported, and
    `folder/log.jsonl`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training = _Training(model, recipe, inputs)
    start, spent = training.resume(folder / CHECKPOINT)
    if start == 0 and writes:
        (folder / LOG).unlink(missing_ok=True)
    started = time.monotonic()
    steps = range(start, recipe.steps)
    for step in tqdm(steps, folder.name, initial=start, total=recipe.steps, disable=not writes):
        loss = training.take_step(step, loss_of_step, averager)
        if writes and ((step + 1) % recipe.checkpointing_steps == 0 or step + 1 == recipe.steps):
            seconds = spent + time.monotonic() - started
            _log(folder / LOG, step + 1, loss, seconds, training.probe_average(probe))
            training.save(folder / CHECKPOINT, step + 1, seconds)
    training.ema.copy_to(model.parameters())
    return spent + time.monotonic() - started


def kept_start(folder: Path, work: Path) -> Path:
    """A copy, below `work`, of the weights in `folder` as they were when this build began.

    For a part that trains weights further and then writes over them: a resumed build begins with the same ones.
    """
    start = work / START
    if start.exists() and not (work / CHECKPOINT).exists():  # nothing was trained from it, and `folder` may be newer
        shutil.rmtree(start)
    if not start.exists():
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work) as incomplete:
            shutil.copytree(folder, Path(incomplete) / START).rename(start)
    return start


def remove_checkpoint(work: Path) -> None:
    """Remove what a finished build leaves below `work`, and nothing else that may be there."""
    for name in (CHECKPOINT, LOG):
        (work / name).unlink(missing_ok=True)
    shutil.rmtree(work / START, ignore_errors=True)
    if not any(work.iterdir()):
        work.rmdir()


class _Training:
    """A model with its optimizer, learning-rate schedule and moving average, which are saved and resumed together."""

    def __init__(self, model: nn.Module, recipe: Recipe, inputs: str):
        from diffusers.training_utils import EMAModel

        self.model, self.recipe = model, recipe
        self.identity = {"recipe": asdict(replace(recipe, checkpointing_steps=0)), "inputs": inputs}
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.99), fused=True
        )
        self.schedule = _warmup_then_cosine(self.optimizer, recipe)
        self.ema = EMAModel(model.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=3 / 4)
        self.bf16 = recipe.bf16 and torch.backends.cpu.get_cpu_capability() == "AVX512"
        self.parts = {"model": model, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}

    def take_step(
        self, step: int, loss_of_step: Callable[[int], Tensor], averager: Callable[[nn.Module], None] | None
    ) -> Tensor:
        torch.manual_seed(step)
        # at these sizes, the CPU's fused bf16 attention is ten times slower than two matrix products
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16), sdpa_kernel(SDPBackend.MATH):
            loss = loss_of_step(step)
        loss.backward()
        if averager is not None:
            averager(self.model)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.ema.step(self.model.parameters())
        return loss

    def probe_average(self, probe: Callable[[], dict[str, float]] | None) -> dict[str, float]:
        """The probe's figures for the averaged weights."""
        if probe is None:
            return {}
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        self.model.eval()
        with torch.no_grad():
            figures = probe()
        self.model.train()
        self.ema.restore(self.model.parameters())
        return figures

    def save(self, file: Path, step: int, seconds: float) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        with replacing(file) as temporary:
            torch.save({"step": step, "seconds": seconds, "identity": self.identity, **states}, temporary)

    def resume(self, file: Path) -> tuple[int, float]:
        """Load a checkpoint, if there is one; the number of steps already taken, and the seconds that they took."""
        if not file.exists():
            return 0, 0.0
        saved = torch.load(file, weights_only=True)
        if saved.get("identity") != self.identity:
            raise TaskError(f"{file} is of another recipe or of other data: remove '{file.parent}' to start again")
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        return saved["step"], saved["seconds"]


def on_processes(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call `work(rank, *arguments)` in two processes of one thread each, which can average their gradients.

    Returns what `work` returned at rank 0. Raises a TaskError that `work` raised at both ranks.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder)
        torch.multiprocessing.spawn(_process, (work, meeting, arguments), nprocs=PROCESSES)
        if (meeting / ERROR).exists():
            raise TaskError((meeting / ERROR).read_text())
        return json.loads((meeting / RESULT).read_text())


def _process(rank: int, work: Callable[..., dict[str, Any]], meeting: Path, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=PROCESSES)
    file, text = RESULT, ""
    try:
        text = json.dumps(work(rank, *arguments))
    except TaskError as error:  # both processes read the same checkpoint, so that both refuse it
        file, text = ERROR, str(error)
    if rank == 0:
        (meeting / file).write_text(text)
    dist.destroy_process_group()


def average_gradients(model: nn.Module) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / PROCESSES).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def channels_last(model: Any) -> Any:
    """The model with the memory layout that the CPU's fast convolution kernels need.

    Its group norms compute in fp32, also under autocast: in bf16 their backward pass is thirty times slower here.
    """
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return model.to(memory_format=torch.channels_last)


def _warmup_then_cosine(optimizer: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / recipe.warmup_steps, total_iters=recipe.warmup_steps)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, recipe.steps - recipe.warmup_steps, eta_min=recipe.learning_rate / 20
    )
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], [recipe.warmup_steps])


def _log(file: Path, step: int, loss: Tensor, seconds: float, figures: dict[str, float]) -> None:
    line = {"step": step, "loss": round(loss.item(), 5), "seconds": round(seconds, 1), **figures}
    with file.open("a") as log:
        log.write(json.dumps(line) + "\n")
