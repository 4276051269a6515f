"""Local worker processes: shared work, killed workers, and orderly shutdown."""

import os
import signal
from contextlib import closing

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.sweeping.jobs import RunJob
from experiments.sweeping.local_launcher import Ended, LocalLauncher, Started, exit_in_words
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


def test_exit_codes_in_words():
    assert "memory" in exit_in_words(-signal.SIGKILL)
    assert exit_in_words(1) == "with exit status 1"
