"""The environment in which a record was made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from reports.upgrade import SCHEMA

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "torchmetrics", "numpy")
ROOT = Path(__file__).parents[2]


def provenance(device: str) -> dict[str, Any]:
    """Schema, package versions, machine, and the project's commit and whether its working tree was dirty."""
    import torch

    return {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "device": device,
        "host": {
            "system": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "card": card_of(device),
        },
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def card_of(device: str) -> str | None:
    """The GPU's model and memory; None if the device is none."""
    if not device.startswith("cuda"):
        return None
    import torch

    card = torch.cuda.get_device_properties(device)
    return f"{card.name}, {card.total_memory / 2**30:.0f} GiB"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if lines:
            return lines[0].split(":", 1)[1].strip()
    return platform.processor()


def _git() -> dict[str, Any]:
    """The commit of this project's checkout and whether it is dirty; None without a checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
