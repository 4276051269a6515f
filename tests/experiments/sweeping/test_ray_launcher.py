"""Two Ray nodes on this machine, one of which is killed during a run."""

import json
import os
from contextlib import closing

import pytest

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.sweeping.jobs import RunJob
from experiments.sweeping.local_launcher import Ended
from experiments.sweeping.ray_launcher import PROJECT, RayLauncher
from tests.experiments.tiny_task import Tiny, diary_of

GATE = 3  # steps before a run waits for the test
COUNT = 4


@pytest.fixture
def cluster(monkeypatch, tiny_task):
    """A head with one core and another node with one core."""
    ray = pytest.importorskip("ray", reason='needs Ray: pip install -e ".[ray]"')
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield nodes, other
    ray.shutdown()
    nodes.shutdown()


def steps_of(diary):
    """The steps that each process took."""
    return {number: [line["step"] for line in lines if line["what"] == "step"] for number, lines in diary.items()}


def waiting(tmp_path):
    """Processes that wait at the gate."""
    return [number for number, steps in steps_of(diary_of(tmp_path)).items() if steps and steps[-1] == GATE]


def node_of(process: int) -> int:
    """The raylet that started a worker process: its parent."""
    with open(f"/proc/{process}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_runs_of_a_dead_node_are_repeated_elsewhere_once(cluster, tmp_path):
    nodes, other = cluster
    task = Tiny(diary=str(tmp_path), gate=GATE)
    trains = [Train(device="cpu", steps=GATE + 2, checkpointing_steps=1, seed=seed) for seed in range(COUNT)]
    runs = [RunJob(RunConfig(Lora(rank=2), task, train).resolved(), tmp_path / "runs") for train in trains]
    raylet = other.all_processes["raylet"][0].process.pid
    seen = []
    with closing(RayLauncher(address=nodes.address).launch(runs)) as events:
        for event in events:
            seen.append(event)
            while len(waiting(tmp_path)) < 2 and not (tmp_path / "open").exists():
                os.sched_yield()  # one run on each node takes its first steps
            if not (tmp_path / "open").exists():
                (doomed,) = [process for process in waiting(tmp_path) if node_of(process) == raylet]
                nodes.remove_node(other, allow_graceful=False)
                (tmp_path / "open").touch()
    ended = [event for event in seen if isinstance(event, Ended)]
    assert [event.reason for event in ended] == [None] * COUNT
    assert {event.job for event in ended} == set(runs)
    for run in runs:
        log = [json.loads(line)["step"] for line in (run.folder.path / "steps.jsonl").read_text().splitlines()]
        assert log == list(range(1, GATE + 3)), "every step once"
        assert run.done
    diary = diary_of(tmp_path)
    evaluated = sum(line["what"] == "evaluated" for lines in diary.values() for line in lines)
    assert evaluated <= COUNT + 2, "once a run, and the untuned base (on both nodes if they start together)"
    assert "evaluated" not in {line["what"] for line in diary[doomed][2:]}
    again = [steps for number, steps in steps_of(diary).items() if number != doomed]
    started, counted = COUNT - 1, COUNT  # the costs of a step are counted on the first batch, after training
    assert sum(steps.count(0) for steps in again) == started + counted, "the broken run resumes from its checkpoint"


@pytest.mark.slow
def test_every_run_with_a_gpu_gets_one_of_its_own_and_a_fresh_process(tmp_path, tiny_task):
    """Ray is told that this machine has two GPUs; the runs compute on the CPU."""
    ray = pytest.importorskip("ray", reason='needs Ray: pip install -e ".[ray]"')
    task = Tiny(diary=str(tmp_path))
    trains = [Train(device="cpu", steps=1, seed=seed) for seed in range(COUNT)]
    runs = [RunJob(RunConfig(Lora(rank=2), task, train).resolved(), tmp_path / "runs") for train in trains]
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(num_cpus=2, num_gpus=2, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        ended = [event for event in RayLauncher(gpus=1).launch(runs) if isinstance(event, Ended)]
    finally:
        ray.shutdown()
    assert [event.reason for event in ended] == [None] * COUNT
    diary = diary_of(tmp_path)
    assert len(diary) == COUNT, "a process each"
    assert all([line["what"] for line in lines].count("prepared") == 1 for lines in diary.values())
    assert {line["gpu"] for lines in diary.values() for line in lines if line["what"] == "prepared"} <= {"0", "1"}


class PretendedRay:
    """Two nodes, one of them with GPUs."""

    def nodes(self):
        with_gpus = {"CPU": 8, "GPU": 4}
        return [{"Alive": True, "Resources": {"CPU": 8}}, {"Alive": True, "Resources": with_gpus}]


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("cuda", None, (1, 1)),
        ("auto", None, (1, 1)),
        ("cpu", None, (0, 0)),
        ("cuda", 0.5, (0.5, 1)),
        ("auto", 0, (0, 0)),
    ],
)
def test_a_run_with_a_gpu_asks_for_a_process_of_its_own(tmp_path, device, gpus, expected):
    job = RunJob(RunConfig(Lora(), Tiny(), Train(device=device)), tmp_path)
    options = RayLauncher(cpus=2, gpus=gpus).task_options(PretendedRay(), [job])
    assert (options["num_gpus"], options["max_calls"], options["num_cpus"]) == (*expected, 2)


@pytest.mark.slow
def test_resources_that_no_node_has_are_refused_at_once(cluster, tmp_path):
    nodes, _ = cluster
    run = RunJob(RunConfig(Lora(), Tiny(), Train(device="cpu")).resolved(), tmp_path / "runs")
    with pytest.raises(UsageError, match="--run-gpus"):
        next(RayLauncher(address=nodes.address, gpus=1).launch([run]))


@pytest.mark.slow
def test_an_address_without_a_cluster_is_one_sentence(tmp_path, tiny_task):
    pytest.importorskip("ray", reason='needs Ray: pip install -e ".[ray]"')
    run = RunJob(RunConfig(Lora(), Tiny(), Train(device="cpu")).resolved(), tmp_path / "runs")
    with pytest.raises(UsageError, match="ray start"):
        next(RayLauncher(address="auto").launch([run]))
