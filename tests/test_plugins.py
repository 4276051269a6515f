"""A method and a task from another installed package, tests/plugin: they are listed, and they run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a process that sees the plugin as an installed distribution."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"  # pip builds in the source's folder
    subprocess.run(["cp", "-r", ROOT / "tests" / "plugin", source], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", target, source], check=True)
    return os.environ | {"PYTHONPATH": str(target)}


def command(environment, *words) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_them(installed):
    assert "scaled-output" in command(installed, "experiments.run", "--help")
    page = command(installed, "experiments.run", "scaled-output", "counting", "--help")
    assert "--adapter.start" in page
    assert "--task.length" in page


def test_they_run_to_a_record(installed, tmp_path):
    words = ["scaled-output", "counting", "--adapter.start", "1.5", "--train.steps", "3", "--train.device", "cpu"]
    command(installed, "experiments.run", *words, "--train.learning-rate", "0.1", "--runs", str(tmp_path))
    record = json.loads(next(tmp_path.glob("counting/scaled-output/*/result.json")).read_text())
    assert record["status"] == "finished"
    assert record["config"]["adapter"] == {"name": "scaled-output", "init": None, "start": 1.5}
    assert record["parameters"]["trainable"] == 16
    assert record["metrics"]["loss"]["value"] != record["metrics"]["loss"]["base"]


def test_without_the_package_they_are_unknown():
    program = "from adapters.base import registry as a; from tasks.base import registry as t; print(*a(), *t())"
    names = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "lora" in names.split()
    assert not {"scaled-output", "counting"} & set(names.split())
