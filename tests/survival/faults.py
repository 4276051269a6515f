"""Provoke every fault in a separate process and print the results as lines of JSON.

    python -m tests.survival.faults FOLDER

No process here may reach a network: the parent refuses every address before it loads anything, and logs attempts.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# not bind: on import, urllib3 binds the loopback address to find out whether there is IPv6
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
ATTEMPTS = Path(sys.argv[1]) / "network-attempts" if len(sys.argv) > 1 else None


def refuse(event: str, arguments: Any) -> None:
    """An audit hook, which also sees attempts whose error a library swallows."""
    if event in NETWORK:
        assert ATTEMPTS is not None
        with ATTEMPTS.open("a") as attempts:
            attempts.write(f"{event} {arguments}\n")
        raise OSError(f"no network here: {event}")


def message(log: Path) -> str:
    """The last line that a process printed, without progress bars."""
    lines = [line for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1]


def run(runner: Any, name: str, *more: str, method: tuple[str, ...] = ("lora",)) -> dict[str, Any]:
    """Run one command line; returns its exit status, last message, record and files."""
    from tests.survival.runner import command_line, exit_status, in_child, run_command

    runs, log = runner.folder / name, runner.folder / f"{name}.log"
    words = command_line(runner.task, runs, *more, method=method)
    return _row(runs, log, exit_status(in_child(lambda: run_command(words), log)))


def _row(runs: Path, log: Path, status: int) -> dict[str, Any]:
    from tests.survival.runner import outcome

    folder = next(iter(runs.glob("*/*/*/")), runs)
    record = folder / "result.json"
    finished = record.exists() and json.loads(record.read_text())["status"] == "finished"
    return {
        "outcome": outcome(folder) if finished else None,
        "status": status,
        "message": message(log),
        "traceback": "Traceback" in log.read_text(errors="replace"),
        "record": json.loads(record.read_text()) if record.exists() else None,
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "folder": str(folder),
    }


def stopped(runner: Any, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stopped by a signal after the first step; then the same command again."""
    from experiments.cli.parser import parse
    from experiments.records.folder import RunFolder
    from experiments.run import RunOptions
    from experiments.session import execute
    from experiments.training.callbacks import Callback
    from tests.survival.runner import command_line, exit_status, in_child, run_main

    name = signal.Signals(number).name
    runs, log = runner.folder / name, runner.folder / f"{name}.log"
    words = command_line(runner.task, runs, "--train.steps", "20")
    wait, stepped = os.pipe()

    class ReportSteps(Callback):
        def on_step(self, trainer: Any, step: int, line: dict[str, Any]) -> None:
            os.write(stepped, b".")

    def work() -> None:
        config, options = parse(RunOptions, words, "run")
        config = config.resolved()
        execute(config, RunFolder.of(options.runs, config), callbacks=[ReportSteps()])

    pid = in_child(lambda: run_main(work), log)
    os.read(wait, 1)
    os.kill(pid, number)
    yield name, _row(runs, log, exit_status(pid))
    yield f"{name} again", run(runner, name, "--train.steps", "20")


def two_at_once(runner: Any) -> list[dict[str, Any]]:
    """Two processes that start the same run at the same moment."""
    from tests.survival.runner import command_line, exit_status, in_child, run_command

    runs = runner.folder / "two"
    words = command_line(runner.task, runs)
    wait, go = os.pipe()

    def start() -> None:
        os.close(go)
        os.read(wait, 1)  # ends for both when the parent closes its end
        run_command(words)

    logs = [runner.folder / "first.log", runner.folder / "second.log"]
    pids = [in_child(start, log) for log in logs]
    os.close(go)
    statuses = [exit_status(pid) for pid in pids]  # wait for both before reading either folder
    return [_row(runs, log, status) for log, status in zip(logs, statuses, strict=True)]


def out_of_memory(runner: Any) -> dict[str, Any]:
    """A batch that does not fit below the process's memory limit."""
    from tests.survival.runner import command_line, exit_status, in_child, run_command

    runs, log = runner.folder / "memory", runner.folder / "memory.log"
    words = command_line(runner.task, runs, "--train.batch-size", "1500")

    def limited() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        allowed = now + 400 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        run_command(words)

    return _row(runs, log, exit_status(in_child(limited, log)))


def disk_full(runner: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file system with space for one checkpoint but not two; then it grows and the same command resumes."""
    disk = runner.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(disk)], capture_output=True).returncode:
        return
    try:
        options = ("--train.checkpointing-steps", "2")
        yield "disk", run(runner, "disk", *options, method=("full",))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        yield "disk again", run(runner, "disk", *options, method=("full",))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main_job(runner: Any) -> dict[str, Any]:
    """The README's first command, with fewer items."""
    from tests.survival.runner import exit_status, in_child, run_command

    runs, log = runner.folder / "main", runner.folder / "main.log"
    words = ["lora", "sd-pokemon", "--runs", str(runs), "--train.steps", "2", "--train.batch-size", "2"]
    for name, value in {"train": 8, "validation": 4, "test": 10, "drift": 4}.items():
        words += [f"--task.{name}-items", str(value)]
    words += ["--task.num-inference-steps", "2"]
    return _row(runs, log, exit_status(in_child(lambda: run_command(words), log)))


def provoke(folder: Path) -> Iterator[tuple[str, Any]]:
    """All faults by name, with their results."""
    from tests.survival.kills import survive
    from tests.survival.runner import Runner

    runner = Runner.create(folder)
    yield "kills", list(survive(runner, 3, seed=0))
    yield "two", two_at_once(runner)
    yield "uninterrupted", run(runner, "uninterrupted", "--train.steps", "20")
    for number in (signal.SIGINT, signal.SIGTERM):
        yield from stopped(runner, number)
    yield "memory", out_of_memory(runner)
    yield from disk_full(runner)
    every_step = ("--train.checkpointing-steps", "1", "--train.learning-rate", "10", "--train.warmup-steps", "0")
    yield "diverged", run(runner, "diverged", *every_step, method=("lora", "--adapter.alpha", "1e18"))
    yield "main job", main_job(runner)
    assert ATTEMPTS is not None
    yield "network", ATTEMPTS.read_text().splitlines() if ATTEMPTS.exists() else []


if __name__ == "__main__":
    sys.addaudithook(refuse)
    for fault, result in provoke(Path(sys.argv[1])):
        print(json.dumps([fault, result]), flush=True)
