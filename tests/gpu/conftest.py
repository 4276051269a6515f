"""Where the GPU tests run: on CUDA with models of published sizes, or, to try them without a GPU, on the CPU with the
smallest ones (`TESTBED_GPU=dry`, which `.ci/gpu --dry` sets).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROWS: list[tuple[str, str]] = []


@dataclass(frozen=True)
class Machine:
    """What a test runs on."""

    device: str

    @property
    def is_dry(self) -> bool:
        return self.device == "cpu"

    def synchronize(self) -> None:
        import torch

        if not self.is_dry:
            torch.cuda.synchronize()


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def machine() -> Machine:
    import torch

    if os.environ.get("TESTBED_GPU") == "dry":
        return Machine("cpu")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA GPU on this machine")
    return Machine("cuda")


@pytest.fixture
def report() -> Callable[[str, str], None]:
    """Adds a row to the table that is printed at the end."""
    return lambda name, value: ROWS.append((name, value))


def pytest_terminal_summary(terminalreporter) -> None:
    if ROWS:
        where = "on the CPU, tiny models: these numbers say nothing of a GPU" if os.environ.get("TESTBED_GPU") else ""
        terminalreporter.section(f"measured {where}".strip())
        for name, value in ROWS:
            terminalreporter.write_line(f"| {name} | {value} |")
