"""Kill runs with SIGKILL at random moments, resume them, and compare their outcomes with an uninterrupted run's.

    python -m tests.survival.kills --moments 50 --seed 0

Every run is a child process that calls `experiments.session.execute`. Kind "line": the process kills itself before
the n-th line that Python executes in this project's files (WATCHED), with n drawn from all lines of an uninterrupted
run; a quarter of these runs are killed once more while they resume. Kind "writing": the parent kills the process as
soon as it sees the n-th checkpoint being written.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.cli.parser import parse_options
from tests.survival.runner import METHODS, TRAIN, Runner, exit_status, in_child, outcome

# files whose lines count; without evaluation's bootstrap, which would have most of them
TASK = ("/tasks/cache.py", "/tasks/language/style_task.py", "/tasks/language/language_task.py")
WATCHED = ("/experiments/", "/adapters/", *TASK)


@dataclass(frozen=True)
class Moment:
    """When to kill: at which line or checkpoint (`number`), and at which line of the resumed run (`resuming`)."""

    method: int
    kind: str
    number: int
    resuming: int | None


def moments(count: int, seed: int, lines: list[int]) -> Iterator[Moment]:
    """Two of three at a line; one of three while a checkpoint is written (full fine-tuning's, the larger one)."""
    generator = random.Random(seed)
    checkpoints = (TRAIN.steps or 0) // (TRAIN.checkpointing_steps or 1)
    for index in range(count):
        method, writing = generator.randrange(len(METHODS)), index % 3 == 2
        if writing:
            yield Moment(len(METHODS) - 1, "writing", generator.randint(1, checkpoints), None)
        else:
            again = generator.randint(1, lines[method] // 2) if generator.random() < 0.25 else None
            yield Moment(method, "line", generator.randint(1, lines[method]), again)


def watch_lines(act: Callable[[int, Any], None]) -> None:
    """Call `act(n, frame)` before the n-th line that is executed in the watched files."""
    count = 0

    def on_line(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            act(count, frame)
        return on_line

    def on_call(frame: Any, _event: str, _argument: Any) -> Any:
        file = frame.f_code.co_filename
        return on_line if any(part in file for part in WATCHED) and "site-packages" not in file else None

    sys.settrace(on_call)


def count_lines(runner: Runner, method: int) -> int:
    """Lines that an uninterrupted run executes."""
    answer, question = os.pipe()

    def work() -> None:
        last = 0

        def act(number: int, _frame: Any) -> None:
            nonlocal last
            last = number

        watch_lines(act)
        runner.run("counted", method)
        sys.settrace(None)
        os.write(question, str(last).encode())

    assert exit_status(in_child(work, runner.folder / "counted.log")) == 0, "the uninterrupted run failed"
    return int(os.read(answer, 20))


def killed_at_line(runner: Runner, name: str, method: int, line: int) -> str:
    """Run until the line; returns the function in which the process died, or the status of a run that ended before."""
    answer, question = os.pipe()

    def act(number: int, frame: Any) -> None:
        if number == line:
            os.write(question, f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        watch_lines(act)
        runner.run(name, method)

    status = exit_status(in_child(work, runner.folder / f"{name}.log"))
    os.close(question)
    return os.read(answer, 200).decode() if status == -signal.SIGKILL else f"ended with {status} before"


def killed_while_writing(runner: Runner, name: str, method: int, number: int) -> str:
    """Run until the parent sees the n-th checkpoint being written; returns how much of it was written."""
    _, folder = runner.run_folder(name, method)
    pid = in_child(lambda: runner.run(name, method), runner.folder / f"{name}.log")
    seen: set[str] = set()
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        with contextlib.suppress(FileNotFoundError):  # the run has ended and removed the folder meanwhile
            seen.update(file.name for file in folder.checkpoint.glob("*.writing"))
        if len(seen) >= number:
            os.kill(pid, signal.SIGKILL)
            exit_status(pid)
            break
    left = [file.stat().st_size for file in folder.checkpoint.glob("*.writing")]
    return f"checkpoint incomplete, {left[0]} bytes" if left else "checkpoint just written"


def survive(runner: Runner, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per moment: when and where the run died, and whether the resumed run equals the uninterrupted one."""
    lines = [count_lines(runner, method) for method in range(len(METHODS))]
    expected = [runner.uninterrupted(method) for method in range(len(METHODS))]
    for index, moment in enumerate(moments(count, seed, lines)):
        name, method = f"killed-{index}", moment.method
        kill = killed_at_line if moment.kind == "line" else killed_while_writing
        died = [kill(runner, name, method, moment.number)]
        if moment.resuming is not None:
            died.append(killed_at_line(runner, name, method, moment.resuming))
        status = exit_status(in_child(lambda n=name, m=method: runner.run(n, m), runner.folder / f"{name}.log"))
        equal = status == 0 and outcome(runner.run_folder(name, method)[1].path) == expected[method]
        yield asdict(moment) | {"method": METHODS[method].name, "died": died, "equal": equal}


@dataclass(frozen=True)
class KillOptions:
    """Kill runs at random moments, resume them, and compare their outcomes with an uninterrupted run's.

    For example: python -m tests.survival.kills --moments 50 --seed 0
    """

    moments: int = 50
    """Runs to kill."""
    seed: int = 0
    """Seed of the moments."""


def main() -> None:
    options = parse_options(KillOptions, sys.argv[1:], "python -m tests.survival.kills")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in survive(Runner.create(Path(folder)), options.moments, options.seed):
            rows.append(row)
            print(json.dumps(row), flush=True)
    equal = sum(row["equal"] for row in rows)
    for died, times in Counter(reason.split(",")[0] for row in rows for reason in row["died"]).most_common():
        print(f"{times:3d} died in {died}")
    print(f"{equal} of {len(rows)} resumed runs equal the uninterrupted one")
    raise SystemExit(equal != len(rows))


if __name__ == "__main__":
    main()
