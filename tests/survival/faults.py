"""Each fault, provoked for real in a process of its own, and what came of it, as lines of JSON.

    python -m tests.survival.faults FOLDER

No process here may reach a network: the parent refuses every address before it loads anything, and counts attempts.
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

# not bind: urllib3 binds the loopback address when it is imported, to see whether there is IPv6
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
ATTEMPTS = Path(sys.argv[1]) / "network-attempts" if len(sys.argv) > 1 else None


def refuse(event: str, arguments: Any) -> None:
    """An audit hook: what libraries try and swallow is counted too."""
    if event in NETWORK:
        assert ATTEMPTS is not None
        with ATTEMPTS.open("a") as attempts:
            attempts.write(f"{event} {arguments}\n")
        raise OSError(f"no network here: {event}")


def message(log: Path) -> str:
    """The last thing that a process said, without the progress bars."""
    lines = [line for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1]


def run(bench: Any, name: str, *more: str, method: tuple[str, ...] = ("lora",)) -> dict[str, Any]:
    """One command as a user gives it: exit status, what it said, its record and its folder."""
    from tests.survival.bench import command_line, ended, in_child, run_command

    runs, log = bench.place / name, bench.place / f"{name}.log"
    words = command_line(bench.task, runs, *more, method=method)
    return _row(runs, log, ended(in_child(lambda: run_command(words), log)))


def _row(runs: Path, log: Path, status: int) -> dict[str, Any]:
    from tests.survival.bench import outcome

    folder = next(iter(runs.glob("*/*/*/")), runs)
    record = folder / "result.json"
    finished = record.exists() and json.loads(record.read_text())["status"] == "finished"
    return {
        "outcome": outcome(folder) if finished else None,
        "status": status,
        "said": message(log),
        "traceback": "Traceback" in log.read_text(errors="replace"),
        "record": json.loads(record.read_text()) if record.exists() else None,
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "folder": str(folder),
    }


def stopped(bench: Any, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stopped by a signal once a first step is done; then the same command again."""
    from experiments.training.loop import Trainer
    from tests.survival.bench import command_line, ended, in_child, run_command

    name = signal.Signals(number).name
    runs, log = bench.place / name, bench.place / f"{name}.log"
    words = command_line(bench.task, runs, "--train.steps", "20")
    wait, stepped = os.pipe()

    def tell_of_steps() -> None:
        loop: Any = Trainer
        after = loop._after_step

        def told(*arguments: Any) -> None:
            after(*arguments)
            os.write(stepped, b".")

        loop._after_step = told
        run_command(words)

    pid = in_child(tell_of_steps, log)
    os.read(wait, 1)
    os.kill(pid, number)
    yield name, _row(runs, log, ended(pid))
    yield f"{name} again", run(bench, name, "--train.steps", "20")


def two_at_once(bench: Any) -> list[dict[str, Any]]:
    """Two processes that begin one run at the same moment."""
    from tests.survival.bench import command_line, ended, in_child, run_command

    runs = bench.place / "two"
    words = command_line(bench.task, runs)
    wait, go = os.pipe()

    def begin() -> None:
        os.close(go)
        os.read(wait, 1)  # ends for both when the parent closes its end
        run_command(words)

    logs = [bench.place / "first.log", bench.place / "second.log"]
    pids = [in_child(begin, log) for log in logs]
    os.close(go)
    statuses = [ended(pid) for pid in pids]  # of both, before either is looked at: the refused one ends first
    return [_row(runs, log, status) for log, status in zip(logs, statuses, strict=True)]


def out_of_memory(bench: Any) -> dict[str, Any]:
    """A batch that does not fit into what the system allows the process."""
    from tests.survival.bench import command_line, ended, in_child, run_command

    runs, log = bench.place / "memory", bench.place / "memory.log"
    words = command_line(bench.task, runs, "--train.batch-size", "1500")

    def limited() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        allowed = now + 400 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        run_command(words)

    return _row(runs, log, ended(in_child(limited, log)))


def disk_full(bench: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file system of 2 MB that holds one checkpoint, not two; then it grows and the same command goes on."""
    place = bench.place / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(place)], capture_output=True
    ).returncode:
        return
    try:
        options = ("--train.checkpointing-steps", "2")
        yield "disk", run(bench, "disk", *options, method=("full",))
        subprocess.run(["mount", "-o", "remount,size=20m", str(place)], check=True)
        yield "disk again", run(bench, "disk", *options, method=("full",))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def main_job(bench: Any) -> dict[str, Any]:
    """What the README's first command does, small."""
    from tests.survival.bench import ended, in_child, run_command

    runs, log = bench.place / "main", bench.place / "main.log"
    words = ["lora", "sd-pokemon", "--runs", str(runs), "--train.steps", "2", "--train.batch-size", "2"]
    for name, value in {"train": 20, "test": 10, "base": 10}.items():
        words += [f"--task.{name}-items", str(value)]
    words += ["--task.num-inference-steps", "2"]
    return _row(runs, log, ended(in_child(lambda: run_command(words), log)))


def provoke(place: Path) -> Iterator[tuple[str, Any]]:
    """All faults, by name."""
    from tests.survival.bench import Bench
    from tests.survival.kills import survive

    bench = Bench.create(place)
    yield "kills", list(survive(bench, 3, seed=0))
    yield "two", two_at_once(bench)
    yield "uninterrupted", run(bench, "uninterrupted", "--train.steps", "20")
    for number in (signal.SIGINT, signal.SIGTERM):
        yield from stopped(bench, number)
    yield "memory", out_of_memory(bench)
    yield from disk_full(bench)
    every_step = ("--train.checkpointing-steps", "1", "--train.learning-rate", "10", "--train.warmup-steps", "0")
    yield "diverged", run(bench, "diverged", *every_step, method=("lora", "--adapter.alpha", "1e18"))
    yield "main job", main_job(bench)
    assert ATTEMPTS is not None
    yield "network", ATTEMPTS.read_text().splitlines() if ATTEMPTS.exists() else []


if __name__ == "__main__":
    sys.addaudithook(refuse)
    for found_name, found in provoke(Path(sys.argv[1])):
        print(json.dumps([found_name, found]), flush=True)
