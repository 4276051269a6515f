"""What a run survives: kills, signals, a second process, lack of memory, a full disk, divergence, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"
}  # the code itself must not use a network


def program(*words: str) -> list[Any]:
    """Run a program of this folder in another process; returns the JSON lines that it printed."""
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in "[{"]


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> dict[str, Any]:
    """The results of all faults, provoked once."""
    return dict(program("tests.survival.faults", str(tmp_path_factory.mktemp("faults"))))


def test_a_killed_run_resumes_to_the_same_outcome(faults):
    assert {row["kind"] for row in faults["kills"]} == {"line", "writing"}
    assert all(row["equal"] for row in faults["kills"]), faults["kills"]


@pytest.mark.slow
def test_fifty_killed_runs_resume_to_the_same_outcome():
    rows = program("tests.survival.kills", "--moments", "50", "--seed", "1")
    assert len(rows) == 50
    assert any("incomplete" in row["died"][0] for row in rows)
    assert all(row["equal"] for row in rows)


def test_two_processes_write_one_record(faults):
    finished, refused = sorted(faults["two"], key=lambda row: row["status"])
    assert (finished["status"], refused["status"]) == (0, 2)
    assert "is in use by process" in refused["message"]
    assert refused["record"] == finished["record"]
    assert "lease" not in finished["files"]


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_the_step_and_the_message_says_how_to_resume(faults, name, status):
    row = faults[name]
    assert row["status"] == status
    assert "the same command resumes" in row["message"]
    assert row["record"] is None
    assert "checkpoint/state.safetensors" in row["files"]
    assert faults[f"{name} again"]["record"]["training"]["resumed_from"] > 0
    assert faults[f"{name} again"]["outcome"] == faults["uninterrupted"]["outcome"]


def test_out_of_memory_is_a_record(faults):
    row = faults["memory"]
    assert row["status"] == 1
    assert row["record"]["reason"].startswith("out of memory: ")
    assert "tried to allocate" in row["record"]["reason"]
    assert "was predicted to need" in row["record"]["reason"]
    assert "--train.batch-size" in row["record"]["reason"]


def test_a_full_disk_is_a_record_and_finished_files_stay(faults):
    if "disk" not in faults:
        pytest.skip("needs the right to mount a file system")
    full, after = faults["disk"], faults["disk again"]
    assert full["status"] == 1
    assert "kB are missing" in full["record"]["reason"]
    assert "checkpoint/state.safetensors" in full["files"]
    assert not [name for name in full["files"] if "writing" in name]
    assert after["record"]["status"] == "finished"
    assert after["record"]["training"]["resumed_from"] == 2


def test_divergence_names_the_tensor_and_saves_the_last_good_weights(faults):
    row = faults["diverged"]
    reason = row["record"]["reason"]
    assert reason.startswith("diverged: the output of the layer 'transformer.")
    assert "is not finite at step" in reason
    assert "are saved in adapter.safetensors" in reason
    assert "adapter.safetensors" in row["files"]


def test_nothing_uses_a_network(faults):
    assert faults["main job"]["record"]["status"] == "finished"
    assert faults["network"] == []


def test_no_traceback_for_what_a_user_can_cause(faults):
    rows = [row for value in faults.values() for row in (value if isinstance(value, list) else [value])]
    assert not [row["message"] for row in rows if isinstance(row, dict) and row.get("traceback")]
