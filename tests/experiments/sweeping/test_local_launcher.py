"""Local worker processes: shared work, killed workers, and orderly shutdown."""

import os
import signal
from contextlib import closing

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.sweeping import local_launcher
from experiments.sweeping.jobs import RunJob
from experiments.sweeping.local_launcher import Ended, LocalLauncher, Place, Started, exit_in_words
from tests.experiments.tiny_task import Tiny, diary_of


@pytest.fixture(autouse=True)
def _registered(tiny_task):
    pass


def runs_of(folder, count, **settings):
    task = Tiny(diary=str(folder), **settings)
    adapters = [*(Lora(rank=rank) for rank in range(1, count)), FullFinetuning()]
    train = Train(device="cpu", checkpointing_steps=1)
    return [RunJob(RunConfig(adapter, task, train).resolved(), folder / "runs") for adapter in adapters]


@pytest.mark.slow
def test_a_killed_process_fails_its_own_run_only_and_each_process_prepares_once(tmp_path):
    runs = runs_of(tmp_path, 5, deadly=True)
    with closing(LocalLauncher(2).launch(runs)) as events:
        seen = list(events)
    assert [event.job for event in seen if isinstance(event, Started)] == runs, "in the order given"
    failed = [event for event in seen if isinstance(event, Ended) and event.reason is not None]
    assert len(failed) == 1
    assert "SIGKILL" in (failed[0].reason or "")
    assert [run.done for run in runs].count(False) == 1
    diary = diary_of(tmp_path)
    assert len(diary) == 3, "two processes, and one that replaced the dead one"
    assert all([line["what"] for line in lines].count("prepared") == 1 for lines in diary.values())

    left = [run for run in runs if not run.done]
    seen = list(LocalLauncher(1).launch(left))
    assert left[0].done
    (again,) = [lines for number, lines in diary_of(tmp_path).items() if number not in diary]
    steps = [line["step"] for line in again if line["what"] == "step"]
    *trained, counted = steps  # the costs of a step are counted on the first batch, after training
    assert trained == [1, 2, 3], "it resumes from the checkpoint of its first step"
    assert counted == 0


def test_jobs_that_are_appended_are_performed_by_the_same_process(tmp_path):
    first, second = runs_of(tmp_path, 2)
    jobs, seen = [first], []
    for event in LocalLauncher(1).launch(jobs):
        seen.append((type(event), event.job))
        if seen[-1] == (Ended, first):
            jobs.append(second)
    assert seen == [(Started, first), (Ended, first), (Started, second), (Ended, second)]
    assert len(diary_of(tmp_path)) == 1
    assert second.done


def test_closing_ends_the_processes_in_order(tmp_path):
    config = RunConfig(Lora(rank=1), Tiny(diary=str(tmp_path)), Train(device="cpu", steps=10**6)).resolved()
    run = RunJob(config, tmp_path / "runs")
    events = LocalLauncher(1).launch([run])
    assert isinstance(next(events), Started)
    while run.last_step() < 2:
        os.sched_yield()
    (number,) = diary_of(tmp_path)
    events.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert not run.done
    assert list(run.folder.checkpoint.iterdir()), "the current step is saved"


@pytest.fixture
def cards(monkeypatch):
    """A machine of eight cores that has as many GPUs as torch says, and runs that use them."""
    monkeypatch.setattr(local_launcher, "uses_cuda", lambda train: train.device != "cpu")
    monkeypatch.setattr(local_launcher, "usable_cores", lambda: 8)

    def pretend(count: int, visible: str | None = None) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return pretend


@pytest.mark.parametrize(
    ("count", "visible", "processes", "gpus"),
    [
        (4, None, None, ["0", "1", "2", "3"]),
        (2, "5,3", None, ["5", "3"]),
        (2, "GPU-8f2a,GPU-11b7", None, ["GPU-8f2a", "GPU-11b7"]),
        (1, "2,9", None, ["2"]),  # torch does not find the second
        (4, None, 2, ["0", "1"]),
        (2, None, 4, ["0", "1", "0", "1"]),
        (0, None, None, [None]),
        (0, "", 2, [None, None]),
    ],
)
def test_a_worker_has_a_gpu_of_its_own(cards, tmp_path, count, visible, processes, gpus):
    cards(count, visible)
    job = RunJob(RunConfig(Lora(), Tiny(), Train(device="cuda")), tmp_path)
    places = LocalLauncher(processes).places([job])
    assert [place.gpu for place in places] == gpus
    assert {(place.threads, place.workers) for place in places} == {(8 // len(gpus), len(gpus))}


def test_runs_on_the_cpu_have_no_gpu_and_one_worker(cards, tmp_path):
    cards(4)
    job = RunJob(RunConfig(Lora(), Tiny(), Train(device="cpu")), tmp_path)
    assert LocalLauncher().places([job]) == [Place(threads=8)]


@pytest.mark.slow
def test_a_worker_starts_with_its_gpu_and_passes_it_to_the_one_that_replaces_it(tmp_path, monkeypatch):
    """Two workers with pretended GPUs, one of which is killed in its second step."""
    runs = runs_of(tmp_path, 4, deadly=True)
    places = [Place(1, 2, "0"), Place(1, 2, "1")]
    monkeypatch.setattr(LocalLauncher, "places", lambda self, jobs: list(places))
    with closing(LocalLauncher(2).launch(runs)) as events:
        failed = [event for event in events if isinstance(event, Ended) and event.reason is not None]
    assert len(failed) == 1
    prepared = [line for lines in diary_of(tmp_path).values() for line in lines if line["what"] == "prepared"]
    assert sorted(line["gpu"] for line in prepared) in (["0", "0", "1"], ["0", "1", "1"])
    assert {line["threads"] for line in prepared} == {"1"}


def test_exit_codes_in_words():
    assert "memory" in exit_in_words(-signal.SIGKILL)
    assert exit_in_words(1) == "with exit status 1"
