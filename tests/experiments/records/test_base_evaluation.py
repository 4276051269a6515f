"""The untuned base's figures: measured once, or shipped with the package for what they were measured on."""

import pytest
import torch

from adapters.lora import Lora
from experiments import run
from reports.records import collect
from tasks import base_evaluation as stored
from tasks.base import task_registry
from tasks.base_evaluation import SHIPPED, base_evaluation, full_key, ship
from tasks.bundled.evaluate import BUNDLED, main
from tasks.cache import key_digest
from tests.experiments.tiny_task import PreparedTiny, Tiny

CPU = torch.device("cpu")


@pytest.fixture
def shipped(tmp_path, monkeypatch, tiny_task):
    """The folder of shipped files, which holds the tiny task's; nothing is cached."""
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored, "SHIPPED", tmp_path / "shipped")
    ship("tiny", Tiny().prepare(CPU), tmp_path / "shipped")
    return tmp_path / "shipped"


@pytest.fixture
def evaluations(monkeypatch, shipped):
    """The evaluations that are made, by whether a base's was not found."""
    made, evaluate = [], PreparedTiny.evaluate

    def counted(self, output=None):
        made.append(output is None)
        return evaluate(self, output)

    monkeypatch.setattr(PreparedTiny, "evaluate", counted)
    return made


def test_a_run_takes_the_shipped_figures_and_its_record_says_so(evaluations, tmp_path, shipped):
    record = run(Lora(rank=2), Tiny(), steps=1, runs=tmp_path / "runs", device="cpu")
    assert len(evaluations) == 1, "the tuned model's"
    (read,) = collect(tmp_path / "runs").finished
    source = read.record.base_evaluation
    assert source == record.data["base_evaluation"]
    assert source["source"] == "shipped with the package"
    assert source["device"] == "cpu"
    assert source["versions"]["torch"] == torch.__version__

    (file,) = shipped.iterdir()
    file.unlink()
    measured = run(Lora(rank=2), Tiny(), steps=1, runs=tmp_path / "measured", device="cpu")
    assert len(evaluations) == 3, "the base's and the tuned model's"
    assert "source" not in measured.data["base_evaluation"]
    assert measured.figure("test_loss").base == record.figure("test_loss").base


@pytest.mark.parametrize("key", ["another base", {"metrics": [["test_loss", 2, {}]]}])
def test_what_has_another_key_is_measured(evaluations, monkeypatch, key):
    monkeypatch.setattr(PreparedTiny, "evaluation_key", key)
    assert "source" not in base_evaluation(Tiny().prepare(CPU)).measured
    assert len(evaluations) == 1


def test_another_precision_or_device_is_measured(evaluations, monkeypatch):
    assert "source" not in base_evaluation(Tiny().prepare(CPU), {"compute": "bf16"}).measured
    monkeypatch.setattr(stored, "_device", lambda prepared: "cuda")
    assert "source" not in base_evaluation(Tiny().prepare(CPU)).measured
    assert len(evaluations) == 2


def test_the_command_replaces_a_tasks_file(shipped, monkeypatch, capsys):
    (old,) = shipped.iterdir()
    monkeypatch.setattr(PreparedTiny, "evaluation_key", "a new base")
    monkeypatch.setattr("tasks.bundled.evaluate.ship", lambda name, prepared: ship(name, prepared, shipped))
    monkeypatch.setattr("sys.argv", ["evaluate", "tiny"])
    main()
    (new,) = shipped.iterdir()
    assert new != old
    assert capsys.readouterr().out.strip() == str(new)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_the_files_of_the_package_are_those_of_the_default_settings(name):
    """Otherwise `python -m tasks.bundled.evaluate` has to be run again."""
    digest = key_digest(full_key(task_registry()[name]().on_cpu().prepare(CPU)))
    assert [file.name for file in SHIPPED.glob(f"{name}-*")] == [f"{name}-{digest}.safetensors"]
