"""A method and a task from another installed package (tests/plugin): `--help` lists them, and they run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Environment variables for a process in which the plugin is an installed distribution."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"  # pip builds inside the source folder
    subprocess.run(["cp", "-r", ROOT / "tests" / "plugin", source], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", target, source], check=True)
    return os.environ | {"PYTHONPATH": str(target)}


def run_module(environment, *words) -> str:
    completed = subprocess.run(
        [sys.executable, "-m", *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_help_lists_them(installed):
    assert "scaled-output" in run_module(installed, "experiments.run", "--help")
    page = run_module(installed, "experiments.run", "scaled-output", "counting", "--help")
    assert "--adapter.start" in page
    assert "--task.length" in page


def test_a_run_of_both_writes_a_record(installed, tmp_path):
    words = ["scaled-output", "counting", "--adapter.start", "1.5", "--train.steps", "3", "--train.device", "cpu"]
    run_module(installed, "experiments.run", *words, "--train.learning-rate", "0.1", "--runs", str(tmp_path))
    record = json.loads(next(tmp_path.glob("counting/scaled-output/*/result.json")).read_text())
    assert record["status"] == "finished"
    assert record["config"]["adapter"] == {"name": "scaled-output", "init": None, "start": 1.5}
    assert record["parameters"]["trainable"] == 16
    assert record["metrics"]["loss"]["value"] != record["metrics"]["loss"]["base"]


BROKEN = {  # by file: a package whose entry points cannot be imported
    "broken_plugin.py": "raise ImportError('no module of yesterday\\nand more')\n",
    "half_plugin.py": "from adapters import Adapter\nclass Half(Adapter, name='half'):\n    attach = None\n1 / 0\n",
    "broken_plugin-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n",
    "broken_plugin-1.0.dist-info/entry_points.txt": (
        "[adapter_testbed.adapters]\nbroken = broken_plugin\nhalf = half_plugin\n"
        "[adapter_testbed.tasks]\nbroken-task = broken_plugin\n"
    ),
}


def test_one_that_cannot_be_imported_is_named_and_left_out(tmp_path):
    for name, text in BROKEN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    completed = subprocess.run(
        [sys.executable, "-m", "experiments.run", "--help"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert "lora" in completed.stdout
    assert "half" not in completed.stdout.split()
    method, half, task = completed.stderr.splitlines()
    assert method.startswith(
        "warning: the method 'broken' of the package 'broken-plugin' is left out, because it cannot"
    )
    assert "(ImportError: no module of yesterday)" in method
    assert "the method 'half'" in half
    assert "ZeroDivisionError" in half
    assert "the task 'broken-task'" in task


def test_they_are_unknown_without_the_package():
    program = "from adapters.base import adapter_registry; from tasks.base import task_registry\n"
    program += "print(*adapter_registry(), *task_registry())"
    names = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "lora" in names.split()
    assert not {"scaled-output", "counting"} & set(names.split())
