"""The time that runs will take, said beforehand: from runs on this machine, or from FLOPs."""

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from experiments import run
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.plan import main as plan_command
from experiments.planning import expected_time as module
from experiments.planning import run_flops
from experiments.planning.expected_time import expected_time, in_words
from experiments.records.folder import write_json
from experiments.sweep import SweepOptions, print_expected
from experiments.sweeping.learning_rates import seed_groups
from tasks import Pokemon, Style
from tests.experiments.tiny_task import Tiny

CPU = Train(device="cpu", steps=20)
TINY = RunConfig(Lora(rank=2), Tiny(), CPU)
SECONDS = {"train": 20.0, "step_median": 1.0, "setup": 0.0, "evaluate": 0.0}
VBLORA = PeftMethod("vblora", {"vector_length": 4, "num_vectors": 16, "topk": 2})
HERE = "as finished runs took on this machine"


@pytest.fixture
def finished(tmp_path, tiny_task, monkeypatch):
    """Writes the record of a run of 20 steps and 10 validations with these seconds, on one thread of this machine."""
    record = run(Lora(rank=2), Tiny(), steps=1, device="cpu", runs=tmp_path)
    (record.folder / "result.json").unlink()
    monkeypatch.setattr(module, "threads_here", lambda: 1)

    def write(method: str = "lora", rank: int = 2, host: Any = None, settings: Any = None, **seconds: float) -> None:
        data = dict(record.data) | {"seconds": SECONDS | seconds, "training": {"steps": 20}, "method": method}
        train = data["config"]["train"] | {"steps": 20, "validation_steps": 2} | (settings or {})
        adapter = data["config"]["adapter"] | {"name": method, "rank": rank}
        data["config"] = data["config"] | {"train": train, "adapter": adapter}
        data["host"] = data["host"] | {"threads": 1} | (host or {})
        folder = tmp_path / "tiny" / method / str(len(list(tmp_path.glob("tiny/*/*"))))
        folder.mkdir(parents=True)
        write_json(folder / "result.json", data)

    return write


def resolved(adapter=TINY.adapter, **train) -> RunConfig:
    return RunConfig(adapter, Tiny(), replace(CPU, **train)).resolved()


@pytest.mark.parametrize(
    ("count", "at_once", "words"),
    [(1, 1, "about 50 s"), (3, 1, "about 2.5 min"), (3, 2, "about 1.2 min"), (2, 8, "about 50 s")],
)
def test_set_up_training_and_evaluation_are_those_of_finished_runs(finished, tmp_path, count, at_once, words):
    finished(train=40.0, setup=4.0, evaluate=6.0)
    configs = [resolved(seed=seed) for seed in range(count)]
    assert expected_time(configs, tmp_path, at_once) == f"{words} ({HERE})"


@pytest.mark.parametrize(
    ("train", "seconds"),
    [
        ({"steps": 20}, 10 + 12 + 60),
        ({"steps": 400}, 10 + 12 + 400 * 0.4 + 52),  # by default ten validations, whatever the steps
        ({"steps": 40, "validation_steps": 2}, 10 + 12 + 40 * 0.4 + 104),
        ({"steps": 20, "validation_steps": 20}, 10 + 12 + 20 * 0.4 + 5.2),
    ],
)
def test_what_training_takes_beyond_its_steps_counts(finished, tmp_path, train, seconds):
    """A run of `style`: steps of 0.4 s, and ten validations of 5.2 s."""
    finished(train=60.0, step_median=0.4, setup=10.0, evaluate=12.0)
    assert expected_time([resolved(**train)], tmp_path) == f"about {in_words(seconds)} ({HERE})"


def test_the_run_that_differs_least_is_the_guide_and_the_sentence_says_which(finished, tmp_path):
    lora, full = resolved(), resolved(FullFinetuning())
    finished("prefix", train=100.0)
    other = "about 1.7 min (as finished runs of prefix took on this machine; there is none of"
    assert expected_time([lora], tmp_path) == f"{other} lora)"
    finished("lora", rank=8, train=30.0)
    settings = "about 30 s (as finished runs of lora with other settings took on this machine)"
    assert expected_time([lora], tmp_path) == settings
    finished("lora", train=20.0)
    assert expected_time([lora], tmp_path) == f"about 20 s ({HERE})"
    both = "about 30 s (as finished runs of lora, prefix took on this machine; there is none of full)"
    assert expected_time([full], tmp_path) == both


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 4},
        {"gradient_accumulation_steps": 2},
        {"compile": True},
        {"optimizer": "adamw-fused"},
        {"ema_decay": 0.99},
    ],
)
def test_a_run_with_another_step_says_nothing(finished, tmp_path, settings):
    finished(settings=settings)
    assert expected_time([resolved()], tmp_path) is None


def test_a_run_on_another_machine_or_device_says_nothing(finished, tmp_path, monkeypatch):
    finished(host={"processor": "another"})
    assert expected_time([resolved()], tmp_path) is None
    finished()
    assert expected_time([resolved()], tmp_path) is not None
    monkeypatch.setattr(module, "gpu_name", lambda: None)
    assert expected_time([resolved(device="cuda", mixed_precision="no")], tmp_path) is None


def test_settings_that_older_records_lack_were_off(finished, tmp_path):
    finished(settings={"compile": None})
    assert expected_time([resolved()], tmp_path) is not None


@pytest.mark.parametrize(
    ("threads", "at_once", "words"), [(1, 1, "2.7 min"), (2, 1, "1.3 min"), (1, 2, "1.3 min"), (1, 4, "40 s")]
)
def test_cores_count_once(finished, tmp_path, threads, at_once, words):
    """Four runs of 40 s on one thread: two workers of one thread are as fast as one of two."""
    finished(train=40.0)
    configs = [resolved(seed=seed) for seed in range(4)]
    assert expected_time(configs, tmp_path, at_once, threads) == f"about {words} ({HERE})"


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ({"jobs": 1}, "expected time of 4 runs and trials: about 40 s"),
        ({"jobs": 2}, "expected time of 4 runs and trials: about 40 s"),
        ({"jobs": 4}, "expected time of 4 runs and trials: about 40 s"),
        ({"jobs": 8}, "expected time of 4 runs and trials: about 40 s"),
        ({"launcher": "ray"}, "expected time of 4 runs and trials: about 40 s"),
        ({"launcher": "ray", "run_cpus": 3}, "expected time of 4 runs and trials: about 53 s"),
        (
            {"launcher": "ray", "ray_address": "auto"},
            "expected time of 4 runs and trials, one after the other: about 2.7 min",
        ),
    ],
)
def test_the_launchers_share_the_cores(finished, tmp_path, monkeypatch, capsys, options, begins):
    """Four runs that take 40 s on one of four cores."""
    finished(train=40.0)
    for module_name in ("sweeping.local_launcher", "sweeping.ray_launcher", "process.openmp"):
        monkeypatch.setattr(f"experiments.{module_name}.usable_cores", lambda: 4)
    groups = seed_groups([resolved(seed=seed) for seed in range(4)], tmp_path, None)
    print_expected(groups, SweepOptions(runs=tmp_path, **options))
    assert capsys.readouterr().err.startswith(begins)


def pictures(**train) -> RunConfig:
    task = Pokemon(test_items=0, drift_items=0, validation_items=2)
    return RunConfig(Lora(), task, replace(CPU, **train)).resolved()


def test_a_run_that_is_trained_already_takes_its_evaluation(tmp_path, tiny_task, monkeypatch):
    """By hand: 7 s of set-up and 5 s of evaluation; the other seed has to be trained."""
    monkeypatch.setattr(module, "_from_operations", lambda config, threads: module.Expected(100, 100, "estimated"))
    monkeypatch.setattr(Tiny, "evaluation_settings", ("diary",))
    record = run(Lora(rank=2), Tiny(), steps=1, device="cpu", runs=tmp_path)
    seconds = record.data["seconds"] | {"setup": 7.0, "evaluate": 5.0}
    write_json(record.folder / "result.json", {**record.data, "seconds": seconds})
    again, other = (
        RunConfig(Lora(rank=2), Tiny(diary=str(tmp_path)), replace(CPU, steps=1, seed=seed)) for seed in (0, 1)
    )
    of_the_run = "already trained: set-up and evaluation as in the finished run"
    assert expected_time([again.resolved()], tmp_path) == f"about 12 s ({of_the_run})"
    assert expected_time([again.resolved()], tmp_path, overwrite=True) == "about 1.7 min (estimated)"
    both = [again.resolved(), other.resolved()]
    assert expected_time(both, tmp_path) == f"about 1.9 min ({of_the_run}; estimated)"


def test_without_runs_the_flops_decide(tmp_path, monkeypatch):
    """By hand: 1 TFLOP/s on the threads of this process, and between a half and a fifth of it; 20 steps, and one
    evaluation or two."""
    monkeypatch.setattr(module, "product_rate", lambda: 1e12)
    monkeypatch.setattr(run_flops, "run_flops", lambda config: run_flops.RunFlops(step=10**12, evaluation=5 * 10**12))
    for share in (1, 2):
        estimate = module._from_operations(resolved(), share * torch.get_num_threads())
        assert estimate is not None
        assert (estimate.low, estimate.high) == pytest.approx((50 / share, 150 / share))
    assert (expected_time([resolved()], tmp_path) or "").startswith("roughly ")


def test_a_gpus_published_rate_is_taken_and_nothing_is_measured_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "product_rate", lambda: pytest.fail("measured"))
    monkeypatch.setattr(module, "gpu_name", lambda: "NVIDIA A100-SXM4-80GB")
    config = pictures(device="cuda", mixed_precision="bf16")
    assert module._rate(config, 1) == ("the a100-80gb's", 312e12)
    assert "20 to 50 % of the a100-80gb's FLOP/s" in (expected_time([config], tmp_path) or "")
    monkeypatch.setattr(module, "gpu_name", lambda: "NVIDIA Something New")
    assert expected_time([config], tmp_path) is None


def test_a_rate_is_that_of_a_product():
    assert 1e8 < module.product_rate() < 1e14


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (20.26, "20 s"), (82, "1.4 min"), (5400, "1.5 h"), (2e5, "2.3 days")]
)
def test_times_are_rounded(seconds, words):
    assert in_words(seconds) == words


def test_an_estimate_that_fails_stops_nothing(tmp_path):
    """VB-LoRA reads values of its weights, which tensors without values do not have."""
    config = RunConfig(VBLORA, Style(test_items=2, drift_items=2, max_length=32), CPU).resolved()
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        module._from_operations(config, 1)
    assert expected_time([config], tmp_path) is None


def test_a_method_that_cannot_be_planned_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plan", "peft", "style", "--adapter.method", "vblora"])
    with pytest.raises(UsageError, match="peft vblora cannot be planned, since its step depends on") as refused:
        plan_command()
    assert "\n" not in str(refused.value)
