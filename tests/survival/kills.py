"""Kills a run at seeded random moments with SIGKILL, resumes it, and compares what it ends with.

    python -m tests.survival.kills --moments 50 --seed 0

Every run is a process of its own that runs `experiments.run.execute`. "line": it kills itself before the n-th line
that Python runs in this project's files (WATCHED), n drawn from all lines of an uninterrupted run, so every line is a
candidate; a fourth of these are killed once more while they resume. "writing": the parent kills it as soon as it sees
a checkpoint half-written, the which-th being drawn.
"""

from __future__ import annotations

import argparse
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

from tests.survival.bench import METHODS, TRAIN, Bench, ended, in_child, outcome

# where lines count; evaluation's bootstrap is left out, since most lines of all would be its
TASK = ("/tasks/cache.py", "/tasks/language/text_modelling.py", "/tasks/language/token_task.py")
WATCHED = ("/experiments/", "/adapters/", *TASK)


@dataclass(frozen=True)
class Moment:
    """When to kill: `number` says which line or which checkpoint, `resuming` which line of the first resumption."""

    method: int
    kind: str
    number: int
    resuming: int | None


def moments(count: int, seed: int, lines: list[int]) -> Iterator[Moment]:
    """Two of three at a line, one of three in the writing of a checkpoint (full fine-tuning's, the larger one)."""
    drawn = random.Random(seed)
    checkpoints = (TRAIN.steps or 0) // (TRAIN.checkpointing_steps or 1)
    for index in range(count):
        method, writing = drawn.randrange(len(METHODS)), index % 3 == 2
        if writing:
            yield Moment(len(METHODS) - 1, "writing", drawn.randint(1, checkpoints), None)
        else:
            again = drawn.randint(1, lines[method] // 2) if drawn.random() < 0.25 else None
            yield Moment(method, "line", drawn.randint(1, lines[method]), again)


def watch_lines(act: Callable[[int, Any], None]) -> None:
    """Call `act(n, frame)` before the n-th line that runs in the watched packages."""
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


def count_lines(bench: Bench, method: int) -> int:
    """Lines that an uninterrupted run takes."""
    answer, question = os.pipe()

    def work() -> None:
        last = 0

        def act(number: int, _frame: Any) -> None:
            nonlocal last
            last = number

        watch_lines(act)
        bench.run("counted", method)
        sys.settrace(None)
        os.write(question, str(last).encode())

    assert ended(in_child(work, bench.place / "counted.log")) == 0, "the uninterrupted run failed"
    return int(os.read(answer, 20))


def killed_at_line(bench: Bench, name: str, method: int, line: int) -> str:
    """Run until the line; in which function the process died. (A resumed run may end before it: that is said.)"""
    answer, question = os.pipe()

    def act(number: int, frame: Any) -> None:
        if number == line:
            os.write(question, f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        watch_lines(act)
        bench.run(name, method)

    status = ended(in_child(work, bench.place / f"{name}.log"))
    os.close(question)
    return os.read(answer, 200).decode() if status == -signal.SIGKILL else f"ended with {status} before"


def killed_while_writing(bench: Bench, name: str, method: int, number: int) -> str:
    """Run until the parent sees so many checkpoints being written; how much of the last one was."""
    _, folder = bench.folder(name, method)
    pid = in_child(lambda: bench.run(name, method), bench.place / f"{name}.log")
    seen: set[str] = set()
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        seen.update(file.name for file in folder.checkpoint.glob("*.writing"))
        if len(seen) >= number:
            os.kill(pid, signal.SIGKILL)
            ended(pid)
            break
    left = [file.stat().st_size for file in folder.checkpoint.glob("*.writing")]
    return f"checkpoint half-written, {left[0]} bytes" if left else "checkpoint just written"


def survive(bench: Bench, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row a moment: when, where the run died, and whether the resumed run ended as the uninterrupted one."""
    lines = [count_lines(bench, method) for method in range(len(METHODS))]
    whole = [bench.whole(method) for method in range(len(METHODS))]
    for index, moment in enumerate(moments(count, seed, lines)):
        name, method = f"killed-{index}", moment.method
        kill = killed_at_line if moment.kind == "line" else killed_while_writing
        died = [kill(bench, name, method, moment.number)]
        if moment.resuming is not None:
            died.append(killed_at_line(bench, name, method, moment.resuming))
        status = ended(in_child(lambda n=name, m=method: bench.run(n, m), bench.place / f"{name}.log"))
        equal = status == 0 and outcome(bench.folder(name, method)[1].path) == whole[method]
        yield asdict(moment) | {"method": METHODS[method].name, "died": died, "equal": equal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for row in survive(Bench.create(Path(place)), arguments.moments, arguments.seed):
            rows.append(row)
            print(json.dumps(row), flush=True)
    equal = sum(row["equal"] for row in rows)
    for died, times in Counter(place.split(",")[0] for row in rows for place in row["died"]).most_common():
        print(f"{times:3d} died in {died}")
    print(f"{equal} of {len(rows)} resumed runs equal the uninterrupted one")
    raise SystemExit(equal != len(rows))


if __name__ == "__main__":
    main()
