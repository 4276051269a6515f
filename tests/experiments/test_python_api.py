"""The Python API: names that import lazily, runs and sweeps as functions, records, callbacks, runs of 0 steps."""

import json
import subprocess
import sys

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments import Callback, RunRecord, Train, UsageError, run, sweep

CPU = Train(device="cpu", steps=3)


@pytest.mark.parametrize(
    "imports",
    [
        "from experiments import run, sweep",
        "import experiments.run, experiments.sweep; from experiments import run, sweep",
        "from experiments import run, sweep; import experiments.run, experiments.sweep; run = experiments.run",
        "from experiments.run import main; from experiments.sweep import main; from experiments import run, sweep",
        "import experiments; run, sweep = experiments.run, experiments.sweep; import experiments.run",
    ],
)
def test_run_and_sweep_are_functions_whatever_is_imported_first(imports):
    program = f"{imports}\nimport sys; print(run.__module__, sweep.__module__, 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["experiments.session", "experiments.sweeping.runner", "False"]


def test_an_unknown_name_is_an_attribute_error():
    import experiments

    with pytest.raises(AttributeError, match="'experiments' has no attribute 'trian'"):
        experiments.trian  # noqa: B018
    assert {"run", "sweep", "load_run"} <= set(dir(experiments))


def test_run_returns_the_record_that_it_writes(tiny_task, tmp_path):
    record = run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path, seed=1)
    assert isinstance(record, RunRecord)
    assert record.status == "finished"
    assert record.test_loss == record.figure("test_loss").value == record.data["metrics"]["test_loss"]["value"]
    assert (record.data["seed"], record.data["training"]["steps"]) == (1, 3)
    assert json.loads((record.folder / "result.json").read_text())["metrics"] == record.data["metrics"]
    assert "test_loss" in dir(record)
    figure = record.figure("test_loss")
    assert f"{figure.unit} (n={figure.n}, {figure.extractor})" in repr(record)
    assert run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path, seed=1) == record
    with pytest.raises(UsageError, match="did you mean 'test_loss'"):
        record.figure("tset_loss")
    with pytest.raises(AttributeError):
        record.kid  # noqa: B018


def test_a_finished_run_is_read_and_overwritten_on_request(tiny_task, tmp_path):
    steps = []

    class Counting(Callback):
        def on_step(self, trainer, step, line):
            steps.append(step)

    for overwrite in (False, False, True):
        run(Lora(), tiny_task(), CPU, runs=tmp_path, callbacks=[Counting()], overwrite=overwrite)
    assert steps == [1, 2, 3, 1, 2, 3]


def test_callbacks_follow_the_training(tiny_task, tmp_path):
    calls = []

    class Recording(Callback):
        def on_start(self, trainer):
            calls.append("start")

        def on_step(self, trainer, step, line):
            calls.append(("step", step, line["step"]))

        def on_validation(self, trainer, step, loss):
            calls.append(("validation", step, loss))

        def on_end(self, trainer):
            calls.append("end")

    record = run(Lora(), tiny_task(), CPU, runs=tmp_path, validation_steps=2, callbacks=[Recording()])
    lines = [json.loads(line) for line in (record.folder / "steps.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    assert calls == [
        "start",
        ("step", 1, 1),
        ("validation", 2, losses[2]),
        ("step", 2, 2),
        ("validation", 3, losses[3]),
        ("step", 3, 3),
        "end",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"stps": 3}, "did you mean 'steps'"), ({"steps": -1}, "must be at least 0"), ({"epochs": 2, "steps": 2}, "both")],
)
def test_wrong_settings_are_usage_errors(tiny_task, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        run(Lora(), tiny_task(), runs=tmp_path, **settings)


@pytest.mark.parametrize("adapter", ["lora", Lora])
def test_a_name_or_a_class_instead_of_an_adapter_is_a_usage_error(adapter, tiny_task, tmp_path):
    with pytest.raises(UsageError, match="adapter must be an Adapter object"):
        run(adapter, tiny_task(), runs=tmp_path)


@pytest.mark.parametrize("adapter", [Lora(rank=2), FullFinetuning()], ids=["lora", "full"])
def test_an_adapter_measured_without_training_has_the_figures_of_its_run(adapter, tiny_task, tmp_path, capsys):
    from dataclasses import replace

    from experiments.records.summary import show

    trained = run(adapter, tiny_task(), CPU, runs=tmp_path / "trained")
    measured = run(
        replace(adapter, init=str(trained.folder)), tiny_task(), runs=tmp_path / "measured", steps=0, device="cpu"
    )
    assert measured.data["metrics"] == trained.data["metrics"]
    assert trained.test_loss != trained.figure("test_loss").base
    assert measured.data["training"] == {"steps": 0}
    assert not measured.data.keys() & {"flops", "throughput", "communication"}
    assert measured.data["memory"].keys() == {"evaluation"}
    assert not (measured.folder / "checkpoint").exists()
    assert not (measured.folder / "steps.jsonl").exists()
    capsys.readouterr()
    show(measured.data, measured.folder)
    printed = capsys.readouterr().out
    assert "not trained" in printed
    assert "GFLOP" not in printed


def test_a_sweep_returns_the_records_of_all_runs_failed_ones_too(tiny_task, tmp_path, monkeypatch, capsys):
    from experiments.records.summary import show
    from tests.experiments.tiny_task import PreparedTiny

    ordinary = PreparedTiny.loss

    def diverging(self, batch):
        full = all(p.requires_grad for p in self.backbone.model.parameters())
        return ordinary(self, batch) * (float("nan") if full else 1.0)

    monkeypatch.setattr(PreparedTiny, "loss", diverging)
    arguments = [[Lora(rank=1), Lora(rank=2), FullFinetuning()], tiny_task(), (0, 1), CPU]
    records = sweep(*arguments, runs=tmp_path)
    assert [(r.data["method"], r.data["seed"], r.status) for r in records] == [
        (method, seed, status)
        for seed in (0, 1)
        for method, status in (("lora", "finished"), ("lora", "finished"), ("full", "failed"))
    ]
    assert "diverged" in (records[2].reason or "")
    assert records[2].data["base_figures"]["test_loss"]["value"] == records[0].figure("test_loss").base
    show(records[2].data, records[2].folder)
    assert "untuned base: test_loss" in capsys.readouterr().out
    monkeypatch.setattr(PreparedTiny, "loss", ordinary)
    again = sweep(*arguments, runs=tmp_path)
    assert [r.data for r in again if r.status == "finished"] == [r.data for r in records if r.status == "finished"]
    assert {r.status for r in sweep(*arguments, runs=tmp_path, retry_failed=True)} == {"finished"}


def test_a_sweep_shares_the_rate_that_its_search_chose(tiny_task, tmp_path):
    records = sweep(Lora(), tiny_task(), (0, 1), Train(device="cpu"), runs=tmp_path, search_lr=2, steps=2)
    rates = {record.data["config"]["train"]["learning_rate"] for record in records}
    assert rates == {record.data["search"]["chosen"] for record in records}
    assert len(rates) == 1


def test_settings_that_a_model_refuses_are_a_failed_record(tiny_task, tmp_path):
    from adapters.prefix_tuning import PrefixTuning

    (record,) = sweep(PrefixTuning(length=64), tiny_task(), train=CPU, runs=tmp_path)
    assert record.status == "failed"
    assert "--adapter.length" in (record.reason or "")
