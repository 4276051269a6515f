"""Runs in child processes, forked from a process that has loaded everything, and their outcomes.

pytest's process cannot be the parent: torch refuses a backward pass in a fork of a process that has run one.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from adapters.base import Adapter
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.records.folder import RunFolder
from experiments.session import execute
from tasks.base import PreparedTask
from tasks.bundled import text
from tasks.language.style import Style

POSITIONS = 64
LOADED_BY_RUNS = ("pandas", "peft", "scipy.stats", "experiments.training.loop")  # else by each child again
METHODS: tuple[Adapter, ...] = (Lora(rank=2, dropout=0.1), FullFinetuning())
TRAIN = Train(
    steps=6,
    batch_size=2,
    learning_rate=1e-3,
    lr_scheduler="cosine",
    warmup_steps=2,
    checkpointing_steps=2,
    validation_steps=3,
    gradient_accumulation_steps=2,
    device="cpu",
)


def tiny_style(folder: Path) -> Style:
    """A style task with a tiny random GPT-2, written to `folder`: a run takes about a second."""
    from transformers import GPT2Config, GPT2LMHeadModel

    documents = list(islice(text.drawn_documents(0, 900), 900))
    tokenizer = text.train_tokenizer(iter(documents[:300]), 400, POSITIONS)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "text.txt").write_text("\n".join(documents))
    return Style(base=str(folder), data=str(folder / "text.txt"), test_items=3, max_length=POSITIONS, drift_items=2)


@dataclass(frozen=True)
class Runner:
    """Runs of the tiny task, loaded once, in subfolders of `folder`."""

    task: Style
    prepared: PreparedTask
    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Runner:
        torch.set_num_threads(1)
        for module in LOADED_BY_RUNS:
            importlib.import_module(module)
        os.environ["ADAPTER_TESTBED_CACHE"] = str(folder / "cache")
        task = tiny_style(folder / "base")
        return cls(task, task.prepare(torch.device("cpu")), folder)

    def run_folder(self, name: str, method: int) -> tuple[RunConfig, RunFolder]:
        config = RunConfig(METHODS[method], self.task, TRAIN).resolved()
        return config, RunFolder.of(self.folder / name, config)

    def run(self, name: str, method: int) -> None:
        config, folder = self.run_folder(name, method)
        execute(config, folder, self.prepared)

    def uninterrupted(self, method: int) -> dict[str, str]:
        """The outcome of an uninterrupted run."""
        log = self.folder / "reference.log"
        assert exit_status(in_child(lambda: self.run("reference", method), log)) == 0
        return outcome(self.run_folder("reference", method)[1].path)


def in_child(work: Callable[[], object], output: Path) -> int:
    """Fork and do the work in the child, with its output in a file; returns the child's pid. An error is status 1."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def exit_status(pid: int) -> int:
    """Wait for the child; returns its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command_line(task: Style, runs: Path, *more: str, method: Sequence[str] = ("lora",)) -> list[str]:
    """The command line of a run of the tiny task."""
    words = [method[0], "style", *method[1:], "--runs", str(runs)]
    for name in ("base", "data", "test_items", "max_length", "drift_items"):
        words += [f"--task.{name.replace('_', '-')}", str(getattr(task, name))]
    return [*words, "--train.steps", "6", "--train.batch-size", "2", "--train.device", "cpu", *more]


def run_command(words: Sequence[str]) -> None:
    """`python -m experiments.run WORDS`, in this process."""
    from experiments.run import main

    sys.argv = ["run", *words]
    run_main(main)


def run_main(main: Callable[[], None]) -> None:
    """Run a command's main function with the exit status and messages of a command."""
    from experiments.cli.errors import command

    command(main)


def outcome(folder: Path) -> dict[str, str]:
    """Hashes of the final weights, of the step log without its times, of the metrics and of the items."""
    from safetensors.torch import load_file

    weights = hashlib.sha256()
    for name, tensor in sorted(load_file(folder / "adapter.safetensors").items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    record = json.loads((folder / "result.json").read_text())
    parts = {"log": log, "status": record["status"], "metrics": record["metrics"]}
    hashes = {name: hashlib.sha256(json.dumps(part).encode()).hexdigest() for name, part in parts.items()}
    return hashes | {
        "weights": weights.hexdigest(),
        "items": hashlib.sha256((folder / "items.parquet").read_bytes()).hexdigest(),
        "files": str(sorted(path.name for path in folder.iterdir())),
    }
