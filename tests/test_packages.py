"""The rules of the house: which way imports go, no cycles, no torch where users wait, folders that can be read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import adapters
from experiments.__main__ import COMMANDS
from tests.import_graph import find_cycle, import_graph, module_names

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "adapters": {"adapters"},
    "tasks": {"tasks", "adapters"},
    "experiments": {"experiments", "tasks", "adapters"},
    "reports": {"reports"},
}
# programs, which nothing imports
PROGRAMS = {
    "experiments.__main__",
    *(f"experiments.{name}" for name in COMMANDS),
    "experiments.measure.communication",
    "reports.__main__",
    "tasks.__main__",
    "tasks.bundled.build",
    "tasks.bundled.evaluate",
    "tasks.bundled.validate",
    "tasks.pretrained.published.write",
}
EXCEPTIONS = {
    # the one list of renamed settings: records are upgraded by it, and the command line names the new names from it
    ("experiments.records.folder", "reports.upgrade"),
    ("experiments.records.provenance", "reports.upgrade"),
    ("experiments.cli.hints", "reports.upgrade"),
    # the one parser of all commands, and how they end; these are programs, so nothing below them depends on it
    *(
        (program, f"experiments.cli.{module}")
        for program in (
            "reports.__main__",
            "tasks.__main__",
            "tasks.bundled.build",
            "tasks.bundled.evaluate",
            "tasks.bundled.validate",
            "tasks.pretrained.published.write",
        )
        for module in ("errors", "parser")
    ),
}
FOR_TASKS = {"adapters.backbone", "adapters.bounds", "adapters.plugins"}  # models, bounds of settings, other packages
MOST_MODULES = 16  # side by side in one folder


def violations(graph):
    """Imports that go the wrong way, as "importer -> imported"."""
    for importer, targets in graph.items():
        package = importer.split(".")[0]
        for target in targets:
            if (importer, target) in EXCEPTIONS:
                continue
            foreign = target.split(".")[0] not in ALLOWED[package]
            inner = package == "tasks" and target.startswith("adapters") and target not in FOR_TASKS
            program = target in PROGRAMS
            through_the_front = target in ALLOWED and importer != target  # the lazy __init__ is for users
            if foreign or inner or program or through_the_front:
                yield f"{importer} -> {target}"


@pytest.fixture(scope="module")
def graph():
    return import_graph(ROOT, ALLOWED)


def test_imports_take_one_direction(graph):
    assert sorted(violations(graph)) == []


def test_every_program_exists():
    assert module_names(ROOT, ALLOWED).keys() >= PROGRAMS


def test_no_two_modules_import_each_other(graph):
    assert find_cycle(graph) is None


def test_no_two_folders_of_experiments_import_each_other(graph):
    inner = {module: module.split(".")[1] for module in graph if re.match(r"experiments\.\w+\.", module)}
    folders = {folder: set() for folder in inner.values()}
    for importer, folder in inner.items():
        folders[folder] |= {inner[target] for target in graph[importer] & inner.keys()} - {folder}
    assert find_cycle(folders) is None


def test_every_exception_is_used(graph):
    """An exception that nothing needs is a hole in the wall."""
    edges = {(importer, target) for importer, targets in graph.items() for target in targets}
    assert edges >= EXCEPTIONS


@pytest.mark.parametrize(
    ("file", "text", "caught"),
    [
        ("reports/tables.py", "def build():\n    import experiments.config", "reports.tables -> experiments.config"),
        ("tasks/base.py", "from adapters.lora import Lora", "tasks.base -> adapters.lora"),
        ("adapters/lora.py", "from tasks import base", "adapters.lora -> tasks.base"),
        ("experiments/session.py", "from experiments.run import main", "experiments.session -> experiments.run"),
        ("experiments/session.py", "from adapters import Lora", "experiments.session -> adapters"),
        ("reports/tables.py", "import reports.__main__", "reports.tables -> reports.__main__"),
    ],
)
def test_a_wrong_direction_is_caught(tmp_path, file, text, caught):
    write_packages(tmp_path, {file: text})
    assert list(violations(import_graph(tmp_path, ALLOWED))) == [caught]


@pytest.mark.parametrize(
    "import_in_base",
    [
        "from adapters.lora import Lora",
        "def attach():\n    from adapters import lora",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from adapters.lora import Lora",
    ],
)
def test_a_cycle_is_caught_lazy_and_type_only_ones_too(tmp_path, import_in_base):
    write_packages(tmp_path, {"adapters/base.py": import_in_base, "adapters/lora.py": "from adapters.base import x"})
    assert set(find_cycle(import_graph(tmp_path, ALLOWED)) or []) == {"adapters.base", "adapters.lora"}


def write_packages(root, files):
    """A tree with modules of the names that the cases import, and the given texts in some of them."""
    names = [
        "adapters/__init__.py", "adapters/base.py", "adapters/lora.py", "experiments/__init__.py",
        "experiments/config.py", "experiments/run.py", "experiments/session.py", "reports/__init__.py",
        "reports/__main__.py", "reports/tables.py", "tasks/__init__.py", "tasks/base.py",
    ]  # fmt: skip
    assert all((ROOT / name).is_file() for name in names)
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(files.get(name, ""))


def test_adapters_is_this_projects_package():
    """AdapterHub's distribution imports as `adapters` too."""
    assert Path(adapters.__file__ or "").parent == ROOT / "adapters"


def test_no_folder_is_a_heap():
    folders = {file.parent for package in ALLOWED for file in (ROOT / package).rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_MODULES} == {}


HEAVY = "{'torch', 'transformers', 'diffusers', 'peft', 'accelerate', 'pandas', 'numpy', 'matplotlib'}"


@pytest.mark.parametrize(
    "program",
    [
        "from adapters import Lora, FullFinetuning, Bottleneck, PrefixTuning, Subspace, PeftMethod",
        "from tasks import Pokemon, DreamBooth, EndToEnd, Style; Pokemon()",
        "from experiments import run, sweep, load_run, RunConfig, Train; assert callable(run) and callable(sweep)",
        "import experiments.run, experiments.sweep\nfrom experiments import run, sweep\n"
        "assert callable(run) and callable(sweep)",
        "from reports import frame, table",
        "import sys; sys.argv = ['run', 'lora', 'sd-pokemon', '--help']\nfrom experiments.run import main\n"
        "try:\n    main()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['reports', '--help']\nfrom reports.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit: pass",
    ],
    ids=["adapters", "tasks", "experiments", "commands", "reports", "run-help", "reports-help"],
)
def test_nothing_heavy_is_imported_where_users_wait(program):
    program += f"\nimport sys; heavy = {HEAVY} & set(sys.modules); assert not heavy, heavy"
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert completed.returncode == 0, completed.stderr
