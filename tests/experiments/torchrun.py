"""Start a program in two processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def torchrun(*arguments: object) -> None:
    """Run `torchrun --nproc_per_node 2 ARGUMENTS`; the test fails with its error output if it does."""
    completed = launched(*arguments)
    assert completed.returncode == 0, completed.stderr[-3000:]


def launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc_per_node 2 ARGUMENTS` when it has ended."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(w) for w in words], cwd=ROOT, env=environment, capture_output=True, text=True)
