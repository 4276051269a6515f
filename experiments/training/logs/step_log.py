"""The step log `steps.jsonl`: one line of JSON per optimizer step, never shorter on disk than a checkpoint says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TextIO

from experiments.errors import UsageError
from tasks import distributed


class StepLog:
    """The log of one training; only the main process writes it."""

    def __init__(self, file: Path):
        self.file = file

    def open(self) -> TextIO:
        return (self.file if distributed.is_main() else Path(os.devnull)).open("a", buffering=1)

    def lines(self) -> list[dict[str, Any]]:
        """All lines, after training."""
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def truncate(self, size: int) -> None:
        """Remove what was logged after a checkpoint, at which the log had this many bytes.

        Raises UsageError if the log has fewer.
        """
        if not distributed.is_main():
            return
        self.file.touch()
        if self.file.stat().st_size < size:
            raise UsageError(f"'{self.file}' is shorter than its checkpoint says: --overwrite repeats the run")
        os.truncate(self.file, size)


def write_line(log: TextIO, line: dict[str, Any]) -> None:
    log.write(json.dumps(line) + "\n")


def flush_to_disk(log: TextIO) -> int:
    """Flush the open log to disk; returns its size in bytes."""
    log.flush()
    os.fsync(log.fileno())
    return os.fstat(log.fileno()).st_size
