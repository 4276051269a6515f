"""Split one run over the processes that torchrun launched: a thin layer over accelerate's `PartialState`.

In a single process everything here is a no-op and imports neither torch nor accelerate. With several, every process
must call these functions in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Part = TypeVar("Part")
Value = TypeVar("Value")

_joined: list[Any] = []  # accelerate's PartialState, between join() and leave()


def num_launched() -> int:
    """Number of processes that torchrun launched; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(on_cpu: bool) -> None:
    """Join the process group of all launched processes.

    Raises RuntimeError if the group is smaller: each process would then silently train alone.
    """
    from accelerate import PartialState

    state = PartialState(cpu=on_cpu)
    if state.num_processes != num_launched():
        raise RuntimeError(
            f"{num_launched()} processes were launched but only {state.num_processes} joined the group: "
            "launch them with torchrun"
        )
    if state.num_processes > 1:
        _joined.append(state)


def leave() -> None:
    """Leave the process group at the end of the program."""
    while _joined:
        _joined.pop().destroy_process_group()


def rank() -> int:
    """Index of this process, from 0."""
    return _joined[-1].process_index if _joined else 0


def world_size() -> int:
    """Number of processes in the group."""
    return _joined[-1].num_processes if _joined else 1


def is_main() -> bool:
    """Whether this process writes files and prints messages."""
    return rank() == 0


def on_main(work: Callable[[], Value]) -> Value:
    """Run `work` in the main process and return its value, or raise its exception, in every process."""
    if world_size() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    value = error = None
    if is_main():
        try:
            value = work()
        except Exception as raised:
            error = raised
    value, error = broadcast_object_list([value, error])
    if error is not None:
        raise error
    return value  # pyright: ignore[reportReturnType]


def all_of(condition: bool) -> bool:
    """Whether `condition` holds in every process."""
    return all(_gather(condition))


def map_across_ranks(parts: Sequence[Part], work: Callable[[Part], Value], title: str | None = None) -> list[Value]:
    """Return `[work(part) for part in parts]` in every process, each computing every n-th value.

    The parts do not depend on the number of processes, so neither do the results. `title` labels a progress bar.
    """
    from tqdm import tqdm

    own_parts = tqdm(parts[rank() :: world_size()], title, leave=False, disable=title is None or not is_main())
    by_rank = _gather([work(part) for part in own_parts])
    return [by_rank[index % world_size()][index // world_size()] for index in range(len(parts))]


def _gather(value: Value) -> list[Value]:
    """The value of every process, in rank order."""
    if world_size() == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])
