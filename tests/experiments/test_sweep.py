"""Sweeps: the runs of a command line, each performed once, whatever happens to the others."""

import json
import subprocess
import sys

import pytest

from adapters.lora import Lora
from experiments.cli.overrides import Overrides
from experiments.cli.parser import parse_task
from experiments.errors import UsageError
from experiments.sweep import SweepOptions, configurations
from experiments.sweeping.jobs import RunJob
from experiments.sweeping.studies import STUDIES
from tasks.diffusion.pokemon import Pokemon

METHODS = ["--methods", "lora", "full", "--sizes", "1", "4", "--seeds", "0", "1", "--train.device", "cpu"]


def expanded(*words: str):
    given, options = parse_task(SweepOptions, words, "sweep")
    return configurations(given, options)


def test_every_method_at_every_size_with_every_seed(tiny_task, capsys):
    configs = expanded("tiny", *METHODS, "--set", "lora.alpha=8", "lora.targets=query value", "--train.steps", "3")
    settings = [(c.adapter.name, getattr(c.adapter, "rank", None), c.train.seed) for c in configs]
    per_seed = [("lora", 1), ("lora", 4), ("full", None)]
    assert settings == [(*setting, seed) for seed in (0, 1) for setting in per_seed]
    lora = [c.adapter for c in configs if isinstance(c.adapter, Lora)]
    assert {(adapter.alpha, adapter.targets) for adapter in lora} == {(8.0, ("query", "value"))}
    assert {c.train.steps for c in configs} == {3}
    assert "full has no size" in capsys.readouterr().out


def test_a_study_is_narrowed_and_changed_by_the_command_line():
    configs = expanded("sd-pokemon", "--study", "rank", "--seeds", "5", "--train.steps", "9", "--task.test-items", "50")
    assert len(configs) == 6
    assert {c.task for c in configs} == {Pokemon(test_items=50)}
    assert {(c.train.steps, c.train.seed) for c in configs} == {(9, 5)}


def test_only_typed_settings_override_a_study(tiny_task):
    given, _ = parse_task(SweepOptions, ["tiny", "--train.seed", "0", "--train.no-gradient-checkpointing"], "sweep")
    assert given == Overrides("tiny", {}, {"seed": 0, "gradient_checkpointing": False})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tiny"], "--methods"),
        (["--methods", "lora"], "TASK"),
        (["tiny", "--methods", "lorra"], "did you mean 'lora'"),
        (["--study", "rnk"], "did you mean 'rank'"),
        (["tiny", "--study", "rank"], "not on tiny"),
        (["--study", "rank", "--methods", "lora"], "leave"),
        (["tiny", "--methods", "lora", "--set", "lora.rnak=3"], "did you mean 'rank'"),
        (["tiny", "--methods", "lora", "--set", "lora.rank=many"], "not a value"),
        (["tiny", "--methods", "lora", "--set", "rank=3"], "METHOD.SETTING=VALUE"),
        (["tiny", "--methods", "lora", "--set", "full.top_blocks=1"], "not among the methods"),
        (["tiny", "--methods", "lora", "--sizes", "1", "--set", "lora.rank=3"], "--sizes varies"),
        (["tiny", "--methods", "lora", "--jobs", "0"], "--jobs"),
    ],
)
def test_a_senseless_command_line_is_refused_in_one_sentence(tiny_task, words, says):
    with pytest.raises(UsageError, match=says) as refused:
        expanded(*words)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tinny"], "did you mean 'tiny'"),
        (["tiny", "--metods", "lora"], "did you mean '--methods'"),
        (["tiny", "--set", "lora.rank=1", "--set", "lora.alpha=1"], "--set is given twice"),
    ],
)
def test_a_typo_names_the_nearest_name(tiny_task, words, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        expanded(*words)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_finished_runs_are_not_repeated(swept):
    status, performed = swept("tiny", *METHODS)
    assert (status, len(performed)) == (0, 6)
    assert all(job.done for job in performed)
    assert swept("tiny", *METHODS) == (0, [])
    performed[2].folder.result_file.unlink()
    status, again = swept("tiny", *METHODS)
    assert (status, [job.folder for job in again]) == (0, [performed[2].folder])


def test_a_failed_run_does_not_stop_others_and_is_named(swept, monkeypatch, capsys):
    from tests.experiments.tiny_task import PreparedTiny

    ordinary = PreparedTiny.loss

    def diverging(self, batch):
        trained = [p.shape for p in self.backbone.model.parameters() if p.requires_grad]
        return ordinary(self, batch) * (float("nan") if any(4 in shape[:1] for shape in trained) else 1.0)

    monkeypatch.setattr(PreparedTiny, "loss", diverging)  # LoRA's A of rank 4 has four rows
    status, performed = swept("tiny", *METHODS)
    assert (status, len(performed)) == (1, 6)
    assert [job.done for job in performed] == [True, False, True, True, False, True]
    printed = capsys.readouterr().err
    assert "2 of 6 runs failed" in printed
    assert "lora rank 4 seed 1" in printed
    assert "diverged" in printed
    monkeypatch.setattr(PreparedTiny, "loss", ordinary)
    assert swept("tiny", *METHODS) == (1, []), "a failed run is repeated on request only"
    status, again = swept("tiny", *METHODS, "--retry-failed")
    assert (status, len(again), all(job.done for job in again)) == (0, 2, True)


def test_settings_that_a_model_refuses_are_a_sentence_and_a_bug_keeps_its_traceback(swept, monkeypatch, capsys):
    from adapters.full_finetuning import FullFinetuning

    def broken(self, backbone):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(FullFinetuning, "attach", broken)
    status, performed = swept(
        "tiny", "--methods", "prefix", "full", "lora", "--set", "prefix.length=64", "--seeds", "0"
    )
    assert (status, len(performed)) == (1, 3)
    assert [job.done for job in performed] == [False, False, True]
    printed = capsys.readouterr().err
    assert "set --adapter.length below 64" in printed
    assert "ZeroDivisionError: ours" in printed
    assert "Traceback" in (performed[1].folder.path / "output.log").read_text()


def test_a_dry_run_runs_nothing_and_shows_progress(swept, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    _, performed = swept("tiny", *METHODS)
    performed[0].folder.result_file.unlink()
    (performed[0].folder.path / "steps.jsonl").write_text('{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    capsys.readouterr()
    assert swept("tiny", *METHODS, "--dry-run") == (0, [])
    printed = capsys.readouterr().out
    assert "step 2 of 4" in printed
    assert printed.count("finished") == 5 + 1
    assert "6 runs: 5 finished, 1 not" in printed
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_runs_that_share_a_prepared_task_have_the_figures_of_separate_runs(swept, tmp_path):
    """A run after others in a process has the same figures as alone."""
    _, performed = swept("tiny", *METHODS)
    last: RunJob = performed[-1]
    shared = json.loads(last.folder.result_file.read_text())["metrics"]
    last.folder.result_file.unlink()
    swept("tiny", *METHODS)
    assert json.loads(last.folder.result_file.read_text())["metrics"] == shared


def test_help_imports_no_torch():
    program = (
        "import sys; from experiments.sweep import main; sys.argv = ['sweep', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
    )
    program += (
        "print({'torch', 'transformers', 'diffusers', 'pandas', 'numpy', 'ray'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "set()\n"
    assert all(name in done.stdout for name in STUDIES)
