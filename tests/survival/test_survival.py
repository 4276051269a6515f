"""What a run survives: kills, signals, a second process, no memory, a full disk, divergence, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}  # our code's own doing


def program(*words: str) -> list[Any]:
    """Run one of this folder's programs in a process of its own: the JSON lines that it printed."""
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in "[{"]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    """All faults, provoked once."""
    return dict(program("tests.survival.faults", str(tmp_path_factory.mktemp("faults"))))


def test_a_killed_run_goes_on_to_the_same_end(found):
    assert {row["kind"] for row in found["kills"]} == {"line", "writing"}
    assert all(row["equal"] for row in found["kills"]), found["kills"]


@pytest.mark.slow
def test_fifty_killed_runs_go_on_to_the_same_end():
    rows = program("tests.survival.kills", "--moments", "50", "--seed", "1")
    assert len(rows) == 50
    assert any("half-written" in row["died"][0] for row in rows)
    assert all(row["equal"] for row in rows)


def test_two_processes_write_one_record(found):
    finished, refused = sorted(found["two"], key=lambda row: row["status"])
    assert (finished["status"], refused["status"]) == (0, 2)
    assert "is in use by process" in refused["said"]
    assert refused["record"] == finished["record"]
    assert "lease" not in finished["files"]


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_and_says_how_to_go_on(found, name, status):
    row = found[name]
    assert row["status"] == status
    assert "the same command goes on" in row["said"]
    assert row["record"] is None
    assert "checkpoint/state.safetensors" in row["files"]
    assert found[f"{name} again"]["record"]["training"]["resumed_from"] > 0
    assert found[f"{name} again"]["outcome"] == found["uninterrupted"]["outcome"]


def test_out_of_memory_is_a_record(found):
    row = found["memory"]
    assert row["status"] == 1
    assert row["record"]["reason"].startswith("out of memory: ")
    assert "tried to allocate" in row["record"]["reason"]
    assert "a step was predicted to need" in row["record"]["reason"]
    assert "--train.batch-size" in row["record"]["reason"]


def test_a_full_disk_is_a_record_and_what_was_finished_stays(found):
    if "disk" not in found:
        pytest.skip("needs the right to mount a file system")
    full, after = found["disk"], found["disk again"]
    assert full["status"] == 1
    assert "kB are missing" in full["record"]["reason"]
    assert "checkpoint/state.safetensors" in full["files"]
    assert not [name for name in full["files"] if "writing" in name]
    assert after["record"]["status"] == "finished"
    assert after["record"]["training"]["resumed_from"] == 2


def test_divergence_names_the_tensor_and_keeps_the_last_good_weights(found):
    row = found["diverged"]
    reason = row["record"]["reason"]
    assert reason.startswith("diverged: the output of the layer 'transformer.")
    assert "is not finite at step" in reason
    assert "are kept in adapter.safetensors" in reason
    assert "adapter.safetensors" in row["files"]


def test_nothing_asks_for_a_network(found):
    assert found["main job"]["record"]["status"] == "finished"
    assert found["network"] == []


def test_no_traceback_for_what_a_user_can_cause(found):
    rows = [row for value in found.values() for row in (value if isinstance(value, list) else [value])]
    assert not [row["said"] for row in rows if isinstance(row, dict) and row.get("traceback")]
