"""`--vary` and `--grid`: the cross product of any settings, parsed as other commands parse them."""

import itertools
import json
import math

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.cli.parser import parse_task
from experiments.errors import UsageError
from experiments.sweep import SweepOptions, axes_of, configurations
from experiments.sweeping.grid import names_of
from experiments.sweeping.learning_rates import seed_groups
from experiments.sweeping.results import best_of, row_of
from experiments.sweeping.runner import sweep
from tests.experiments.tiny_task import PreparedTiny, Tiny

CPU = ("--train.device", "cpu")


def expanded(*words: str):
    return configurations(*parse_task(SweepOptions, [*words, *CPU], "sweep"))


def seen(configs):
    return [(c.adapter.rank, c.train.learning_rate, c.adapter.targets, c.train.seed) for c in configs]


def test_every_combination_runs_and_the_first_seed_of_all_comes_first(tiny_task):
    words = ["--vary", "train.learning-rate", "1e-4", "3e-4", "--vary", "adapter.targets", "attention", "query value"]
    configs = expanded("tiny", "--methods", "lora", "--sizes", "1", "4", "--seeds", "0", "7", *words)
    targets = (("attention",), ("query", "value"))
    wanted = itertools.product((0, 7), (1, 4), (1e-4, 3e-4), targets)
    assert seen(configs) == [(rank, rate, where, seed) for seed, rank, rate, where in wanted]


def test_a_setting_of_one_method_leaves_the_others_alone(tiny_task):
    configs = expanded("tiny", "--methods", "lora", "full", "--seeds", "0", "--vary", "lora.alpha", "8", "rank")
    assert [c.adapter for c in configs] == [Lora(alpha=8.0), Lora(alpha="rank"), FullFinetuning()]


def test_short_names_and_other_types_are_read_as_in_other_commands(tiny_task):
    configs = expanded(
        *("tiny", "--methods", "lora", "--seeds", "0"),
        *("--vary", "train.lr", "1e-3", "--vary", "train.ema-decay", "None", "0.9"),
        *("--vary", "lora.use-rslora", "True", "False"),
    )
    train = [(c.train.learning_rate, c.train.ema_decay, getattr(c.adapter, "use_rslora", None)) for c in configs]
    assert train == [(1e-3, ema, rslora) for ema in (None, 0.9) for rslora in (True, False)]


def test_settings_of_the_task_and_a_study_can_be_varied():
    configs = expanded("sd-pokemon", "--study", "rank", "--seeds", "0", "--vary", "task.crop", "center", "random")
    assert len(configs) == 12
    assert {getattr(c.task, "crop", None) for c in configs} == {"center", "random"}


LORA = ("tiny", "--methods", "lora")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*LORA, "--vary", "train.learning-rte", "1"), "did you mean 'learning-rate'"),
        ((*LORA, "--vary", "train.learning-rate", "fast"), "'fast' is not a value for train.learning-rate"),
        ((*LORA, "--vary", "train.learning-rate", "-1"), "--train.learning-rate must be above 0"),
        ((*LORA, "--vary", "train.learning-rate"), "SETTING VALUE"),
        ((*LORA, "--vary", "lr", "1"), "did you mean 'train.learning-rate'"),
        ((*LORA, "--vary", "trian.steps", "1"), "did you mean 'train'"),
        (
            ("tiny", "--methods", "dora", "--vary", "dora.rank", "1"),
            "dora runs as peft: vary its size with --sizes",
        ),
        (("tiny", "--methods", "ia3", "--vary", "ia3.x", "1"), r"ia3 runs as peft: set others with --set ia3.SETTING"),
        ((*LORA, "--vary", "train.seed", "1"), "--seeds"),
        ((*LORA, "--vary", "prefix.length", "1"), "not among the methods"),
        ((*LORA, "full", "--vary", "adapter.targets", "all"), "METHOD.SETTING"),
        ((*LORA, "--vary", "adapter.rank", "1", "--sizes", "2"), "both set"),
        ((*LORA, "--vary", "adapter.alpha", "1", "--set", "lora.alpha=2"), "both set"),
        ((*LORA, "--vary", "adapter.alpha", "1", "--vary", "lora.alpha", "2"), "both set"),
        ((*LORA, "--vary", "train.steps", "1", "--vary", "train.steps", "2"), "twice"),
        ((*LORA, "--vary", "train.steps", "1", "--train.steps", "2"), "both set"),
        ((*LORA, "--vary", "train.lr", "1", "--search-lr", "3"), "both set"),
        ((*LORA, "--grid", "rate-rnak"), "did you mean 'rate-rank'"),
        ((*LORA, "--grid", "rate-rank", "--vary", "train.lr", "1"), "both set"),
        ((*LORA, "--grid", "data-size"), "no setting for the amount"),
        (("--study", "rank", "--grid", "rate-rank"), "--grid needs a TASK"),
    ],
)
def test_a_wrong_name_or_value_is_one_sentence(tiny_task, words, says):
    with pytest.raises(UsageError, match=says) as refused:
        expanded(*words)
    assert "\n" not in str(refused.value)


def test_the_grid_of_rates_and_sizes_is_centred_on_the_recommended_rate(tiny_task):
    configs = expanded(*LORA, "--grid", "rate-rank", "--seeds", "0")
    cells = {(c.adapter.rank, c.train.learning_rate) for c in configs if isinstance(c.adapter, Lora)}
    ranks, rates = ({cell[i] for cell in cells} for i in (0, 1))
    assert (ranks, len(rates), len(configs)) == ({1, 4, 16, 64}, 5, 20)
    middle = sorted(rate or 0 for rate in rates)[2]
    assert abs(math.log(middle / 1e-2)) <= math.log(3) / 2 + 1e-9, "the tiny card's rate"
    assert {
        c.adapter.rank
        for c in expanded(*LORA, "--grid", "rate-rank", "--sizes", "2", "3")
        if isinstance(c.adapter, Lora)
    } == {2, 3}


def test_batches_of_every_size_see_equally_many_items(tiny_task):
    configs = expanded(*LORA, "--grid", "batch-rank", "--sizes", "1", "--seeds", "0", "--train.steps", "16")
    pairs = [(c.train.batch_size, c.train.steps) for c in configs]
    assert pairs == [(1, 32), (2, 16), (4, 8), (8, 4)]  # half of the card's 2, and a quarter rounded up to it


def test_shares_of_the_data_at_equally_many_steps():
    configs = expanded("e2e", "--methods", "lora", "--grid", "data-size", "--sizes", "1", "--seeds", "0")
    assert [getattr(c.task, "train_items", None) for c in configs] == [125, 250, 500, 1000]
    assert len({c.train.steps for c in configs}) == 1
    with pytest.raises(UsageError, match="in full"):
        expanded("e2e", "--methods", "lora", "--grid", "data-size", "--task.data", "meanings.csv")


@pytest.mark.parametrize("task", ["style", "sd-pokemon"])
def test_placements_have_equally_many_parameters(task):
    from tasks.base import task_registry

    configs = expanded(task, "--methods", "lora", "--grid", "placement", "--sizes", "8", "--seeds", "0")
    backbone = task_registry()[task]().meta_model().backbone
    counts = {
        c.adapter.targets: c.adapter.parameter_count(backbone) or 0 for c in configs if isinstance(c.adapter, Lora)
    }
    assert set(counts) == {("linear",), ("attention",), ("feed-forward",)}
    parts = [{p.key for p in backbone.projections(role)} for role in ("attention", "feed-forward")]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {p.key for p in backbone.projections("linear")}
    assert max(counts.values()) / min(counts.values()) < 1.07  # ranks are whole numbers


GRID = (*LORA, "--sizes", "1", "2", "--seeds", "0", "1", "--vary", "train.learning-rate", "1e-3", "9")


def test_a_diverged_cell_is_a_record_and_is_listed_and_the_sweep_resumes(swept, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    ordinary = PreparedTiny.loss
    rates: list[float] = []
    monkeypatch.setattr(PreparedTiny, "loss", lambda self, batch: ordinary(self, batch) * rates[-1])
    from experiments.training.loop import Trainer

    step = Trainer.step

    def noting(self, number):
        rates.append(float("nan") if self.settings.learning_rate == 9 and number == 1 else 1.0)
        return step(self, number)

    monkeypatch.setattr(Trainer, "step", noting)
    status, performed = swept(*GRID, *CPU)
    assert (status, len(performed)) == (1, 8)
    records = [json.loads(job.folder.result_file.read_text()) for job in performed]
    outcomes = {(r["config"]["train"]["learning_rate"], r["status"]) for r in records}
    assert outcomes == {(1e-3, "finished"), (9, "failed")}
    out, err = capsys.readouterr()
    assert "train.learning-rate" in out
    table = [line for line in out.splitlines() if "2 diverged" in line or "2 finished" in line]
    assert [("0.001" in line, " 9 " in line) for line in table] == [(True, False), (False, True)] * 2
    assert sum("*" in line for line in table) == 1
    assert "learning rate 9 seed 1" in err
    assert "4 of 8 runs failed" in err
    assert swept(*GRID, *CPU) == (1, [])
    performed[0].folder.result_file.unlink()
    assert len(swept(*GRID, *CPU)[1]) == 1


def test_a_dry_run_shows_what_varies(swept, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    assert swept(*GRID, *CPU, "--dry-run") == (0, [])
    assert capsys.readouterr().out.count("learning rate 9") == 4


def test_a_search_finds_a_rate_for_each_value(swept, tmp_path):
    words = (*LORA, "--sizes", "1", "--seeds", "0", "--vary", "train.batch-size", "1", "4", "--search-lr", "2")
    status, performed = swept(*words, *CPU)
    assert status == 0
    assert {job.config.train.batch_size for job in performed} == {1, 4}
    assert all("batch size" in job.label for job in performed)


def test_the_mean_over_seeds_decides_what_is_best(tiny_task, tmp_path):
    records = sweep(
        Lora(rank=1), Tiny(), (0, 1), runs=tmp_path, vary={"train.learning_rate": (1e-4, 1e-1)}, device="cpu"
    )
    rates = [record.data["config"]["train"]["learning_rate"] for record in records]
    assert rates == [1e-4, 1e-1, 1e-4, 1e-1]
    configs = expanded(*LORA, "--sizes", "1", "--seeds", "0", "1", "--vary", "train.learning-rate", "1e-4", "1e-1")
    rows = [row_of(group) for group in seed_groups(configs, tmp_path, None, ("train.learning_rate",))]
    means = {
        rate: sum(r.test_loss for r, x in zip(records, rates, strict=True) if x == rate) / 2 for rate in set(rates)
    }
    assert {row.settings["train.learning_rate"]: row.value for row in rows} == pytest.approx(means)
    (best,) = best_of(rows)
    assert best.value == pytest.approx(min(means.values()))
    with pytest.raises(UsageError, match="did you mean 'learning_rate'"):
        sweep(Lora(), Tiny(), runs=tmp_path, vary={"train.learning_rte": (1,)})
    with pytest.raises(UsageError, match="cannot vary 'learning_rate': unknown part"):
        sweep(Lora(), Tiny(), runs=tmp_path, vary={"learning_rate": (1,)})


def test_names_of_what_varies(tiny_task):
    given, options = parse_task(SweepOptions, [*GRID, "--vary", "lora.alpha", "1"], "sweep")
    assert names_of(axes_of(given, options).values()) == ("train.learning_rate", "lora.alpha")
