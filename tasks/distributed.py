"""The processes of one run, as torchrun starts them: work shared out, files written by the main one alone.

In one process everything here does what it would do without this file. Where there are several, all of them must
call these functions in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Part = TypeVar("Part")
Value = TypeVar("Value")


def started() -> int:
    """How many processes torchrun has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(on_cpu: bool) -> None:
    """Make this process one of those that torchrun started.

    Raises RuntimeError where fewer of them work together than were started: each would train alone, and none say so.
    """
    from accelerate import PartialState

    joined = PartialState(cpu=on_cpu).num_processes
    if joined != started():
        raise RuntimeError(f"{started()} processes were started and {joined} work together: start them with torchrun")


def leave() -> None:
    """Undo `join()` at the end of the program."""
    if _group() is not None:
        _group().destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return _group().get_rank() if _group() is not None else 0


def world_size() -> int:
    """How many processes work together."""
    return _group().get_world_size() if _group() is not None else 1


def is_main() -> bool:
    """Whether this process writes the files and talks to the user."""
    return rank() == 0


def on_main(work: Callable[[], Value]) -> Value:
    """What `work` gives in the main process, known to all; an error of it is raised in all."""
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    _group().broadcast_object_list(outcome)
    value, error = outcome
    if error is not None:
        raise error
    return value


def all_of(condition: bool) -> bool:
    """Whether `condition` holds in every process."""
    return all(_gathered(condition))


def map_across_ranks(parts: Sequence[Part], work: Callable[[Part], Value], title: str | None = None) -> list[Value]:
    """What `work` gives for each part, in order: each process does every n-th of them, all know all results.

    The parts are the same however many processes there are, so the results are too. `title` names a progress bar.
    """
    from tqdm import tqdm

    mine = tqdm(parts[rank() :: world_size()], title, leave=False, disable=title is None or not is_main())
    done = _gathered([work(part) for part in mine])
    return [done[place % world_size()][place // world_size()] for place in range(len(parts))]


def _gathered(value: Value) -> list[Value]:
    """Every process's value, in the processes' order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    _group().all_gather_object(values, value)
    return values


def _group() -> Any:
    """torch.distributed where a group of processes works together, else None; imports no torch by itself."""
    import sys

    if "torch" not in sys.modules:
        return None
    import torch.distributed as distributed

    return distributed if distributed.is_available() and distributed.is_initialized() else None
