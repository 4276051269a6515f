"""A task that trains a tiny random GPT-2 in milliseconds; a test can make it fail, die or wait."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from tasks.base import Evaluation, Figure, Metric, PreparedTask, Task, declare
from tasks.language.model.backbone import CausalLanguageModel
from tests.contract import tiny


@dataclass(frozen=True)
class Tiny(Task, name="tiny"):
    """Predict the next tokens of fixed random sequences."""

    metrics = declare(Metric("test_loss", "lower", "nats", "loss on test sequences"))
    primary_metric = "test_loss"

    diary: str | None = None
    """Folder in which every process logs what it does."""
    deadly: bool = False
    """Kill the first process that takes a step, in its second step."""
    gate: int | None = None
    """Steps from this one on wait for the file `open` in the diary."""

    def recommended(self, adapter: str) -> dict:
        return {"steps": 4, "batch_size": 2, "learning_rate": 1e-2}

    def prepare(self, device: torch.device) -> PreparedTask:
        return PreparedTiny(self)


del Task._registry["tiny"]  # the fixture `tiny_task` registers it, for its tests alone


class PreparedTiny(PreparedTask):
    train_items = 16

    def __init__(self, task: Tiny):
        self.task, self.facts = task, {}
        gpu, threads = (os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"))
        self.log("prepared", gpu=gpu, threads=threads)
        torch.manual_seed(0)
        self.backbone = CausalLanguageModel(tiny.gpt2())
        self.backbone.model.eval()

    def log(self, what: str, **more) -> None:
        if self.task.diary is not None:
            with (Path(self.task.diary) / f"{os.getpid()}.jsonl").open("a") as diary:
                diary.write(json.dumps({"what": what, **more}) + "\n")

    def batches(self, seed, start, size):
        step = start
        while True:
            yield step, torch.randint(0, 64, (size, 12), generator=torch.Generator().manual_seed(seed * 1000 + step))
            step += 1

    def loss(self, batch):
        step, tokens = batch
        self.log("step", step=step)
        if self.task.deadly and step == 1 and self.is_first("died"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.task.gate is not None and step >= self.task.gate:
            while not (Path(self.task.diary or "") / "open").exists():
                threading.Event().wait(0.05)
        return self.mean_loss(tokens)

    def is_first(self, marker: str) -> bool:
        """Whether this process is the first to ask for the marker; true for exactly one of several at once."""
        try:
            (Path(self.task.diary or "") / marker).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def mean_loss(self, tokens):
        return self.backbone.model(input_ids=tokens, labels=tokens).loss

    @torch.no_grad()
    def validation_loss(self) -> float:
        return float(self.mean_loss(next(self.batches(77, 0, 16))[1]))

    @torch.no_grad()
    def evaluate(self, output=None) -> Evaluation:
        self.log("evaluated")
        loss = float(self.mean_loss(next(self.batches(99, 0, 16))[1]))
        return Evaluation({"test_loss": Figure(loss, "nats", 16, "the model itself")}, [{"item": 0, "loss": loss}])

    @property
    def evaluation_key(self) -> str:
        return "tiny"


def diary_of(folder: Path) -> dict[int, list[dict]]:
    """The log of every process, by its pid."""
    return {int(file.stem): [json.loads(line) for line in file.open()] for file in sorted(folder.glob("*.jsonl"))}
