"""`plan`: what each setting adds, which GPUs a run fits, the largest batch, methods side by side, the grid."""

import json
import sys
from dataclasses import replace

import pandas as pd
import pytest

from adapters.base import adapter_registry
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.measure.memory.frozen_weights import store, stored_bytes
from experiments.plan import main
from experiments.planning.advice import surprises, to_fit
from experiments.planning.cards import card_of, known_cards
from experiments.planning.durations import durations
from experiments.planning.memory_plan import CARDS, GIB, PlanSettings, plan
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd
from tests.experiments.measure.test_memory import SHAPE, TOKENS, configuration
from tests.experiments.measure.test_memory import task as task  # a fixture

CPU = PlanSettings(device="cpu")


def training_peak(config: RunConfig, settings: PlanSettings = CPU, **train) -> int:
    return plan(replace(config, train=replace(config.train, **train)), settings).prediction.training.peak


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["lora", "full", "subspace"])
def test_a_step_traced_at_a_prime_batch_is_the_step(monkeypatch, method, checkpointing):
    from tasks.diffusion.model.meta_model import DiffusionMetaModel

    train = Train(gradient_checkpointing=checkpointing, mixed_precision="no")
    config = RunConfig(adapter_registry()[method](), Pokemon(), train)
    phases = {}
    for scales in (True, False):
        monkeypatch.setattr(DiffusionMetaModel, "scales_with_batch", scales)
        for batch in (1, 3):
            one = replace(config, train=replace(train, batch_size=batch))
            phases[scales, batch] = plan(one).prediction.training
    for batch in (1, 3):
        assert phases[True, batch].peak == pytest.approx(phases[False, batch].peak, rel=0.005)
        assert phases[True, batch].flops == pytest.approx(phases[False, batch].flops, rel=0.005)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["lora", "full", "bottleneck", "prefix", "subspace", "peft"])
def test_one_trace_gives_the_peak_of_every_batch(task, method, checkpointing):
    first = plan(configuration(task, method, gradient_checkpointing=checkpointing), CPU)
    for batch in (2, 5, 16):
        direct = training_peak(first.config, batch_size=batch)
        assert first.by_batch.peak(batch) == pytest.approx(direct, rel=0.01)


def test_the_largest_batch_fits_and_a_larger_one_does_not(task):
    first = plan(configuration(task), PlanSettings(context=7.9, workspaces=0))
    largest = first.largest_batch(8)
    assert first.needed_at(largest) <= 8 < first.needed_at(largest + 1)
    assert first.largest_batch(7.9) == 0


def test_prior_preservation_doubles_the_batch():
    adapter = adapter_registry()["lora"]()
    results = [
        plan(RunConfig(adapter, DreamBooth(prior_preservation=prior), Train(batch_size=batch)), CPU)
        for prior, batch in ((True, 4), (False, 4), (False, 8))
    ]
    with_prior, without, doubled = (result.prediction.training.timeline.by_category() for result in results)
    assert with_prior["activations"] == pytest.approx(doubled["activations"], rel=0.01)
    assert with_prior["activations"] == pytest.approx(2 * without["activations"], rel=0.05)


def test_a_moving_average_adds_a_copy_of_what_trains(task):
    config = configuration(task, "full")
    trained = 4 * plan(config, CPU).prediction.trainable
    states = [
        plan(
            replace(config, train=replace(config.train, ema_decay=decay)), CPU
        ).prediction.training.timeline.by_category()["optimizer state"]
        for decay in (None, 0.999)
    ]
    assert states[1] - states[0] == trained


def test_fused_adamw_has_no_temporaries_and_eight_bits_a_quarter_of_the_state(task):
    config = configuration(replace(task, max_length=4), "full", batch_size=1)
    on_cuda = PlanSettings()
    peaks = {name: training_peak(config, on_cuda, optimizer=name) for name in ("adamw", "adamw-fused", "adamw-8bit")}
    trained = plan(config, CPU).prediction.trainable
    assert peaks["adamw"] - peaks["adamw-fused"] > 2.5 * trained  # foreach copies a moment, 4 bytes a number
    saved = peaks["adamw-fused"] - peaks["adamw-8bit"]
    assert 4.5 * trained < saved < 6 * trained  # 8 bytes a number become 2 and a scale, in large tensors


def test_several_processes_hold_their_gradients_in_buckets(task):
    config = configuration(task, "full")
    assert training_peak(config, num_processes=2) - training_peak(config) == pytest.approx(
        4 * plan(config, CPU).prediction.trainable, rel=0.01
    )


def test_plain_attention_stores_its_dropout_mask_and_fused_attention_none(task, tmp_path):
    peaks = {}
    for share in (0.0, 0.1):
        (tmp_path / "config.json").write_text(json.dumps(SHAPE | TOKENS | {"attn_pdrop": share}))
        config = configuration(replace(task, base=str(tmp_path)))
        for attention in ("fused", "math"):
            peaks[share, attention] = training_peak(config, PlanSettings(attention=attention))
    assert peaks[0.0, "fused"] == peaks[0.1, "fused"]
    assert peaks[0.0, "math"] < peaks[0.1, "math"]


@pytest.mark.parametrize("kind", ["style", "e2e"])
def test_methods_of_peft_are_planned(task, kind):
    chosen = task if kind == "style" else EndToEnd(base=task.base, max_new_tokens=16, test_items=4)
    result = plan(configuration(chosen, "peft"), CPU)
    assert result.prediction.trainable > 0
    assert result.evaluation_peak > 0


def test_the_evaluation_counts_and_the_training_batch_does_not_lower_it(task):
    config = configuration(EndToEnd(base=task.base, max_new_tokens=24, test_items=30), batch_size=1)
    result = plan(config, CPU)
    assert result.prediction.peak == result.evaluation_peak > result.prediction.training.peak
    assert any("outside the training step" in line for line in surprises(result))
    assert result.largest_batch(0.99 * result.evaluation_peak / GIB) == 0


def test_the_storage_of_frozen_weights_enters_in_one_place(task):
    full, half = (
        plan(configuration(replace(task, base_precision=precision), mixed_precision="bf16"))
        for precision in ("fp32", "bf16")
    )
    frozen = full.prediction.total - full.prediction.trainable
    saved = full.prediction.training.timeline.by_category()["weights"]
    saved -= half.prediction.training.timeline.by_category()["weights"]
    assert saved == pytest.approx(2 * frozen, rel=0.01)
    with pytest.raises(UsageError, match=r"--train\.mixed-precision bf16"):
        plan(configuration(replace(task, base_precision="bf16"), mixed_precision="no"))


def test_a_vae_stays_in_fp32():
    from torch import nn

    vae, other = nn.Linear(4, 4, device="meta"), nn.Linear(4, 4, device="meta")
    store(vae, "bf16", part="vae")
    store(other, "bf16", part="text_encoder")
    assert (stored_bytes(vae), stored_bytes(other)) == (80, 40)


def test_casts_of_weights_are_explained(task):
    def explained(precision: str | None, mixed_precision: str) -> bool:
        config = configuration(replace(task, base_precision=precision), batch_size=1, mixed_precision=mixed_precision)
        return any("copies of the weights" in line for line in surprises(plan(config)))

    assert explained("fp32", "bf16")
    assert not explained(None, "bf16")  # frozen weights are stored as they are computed with
    assert not explained(None, "no")


def test_advice_fits_or_says_that_nothing_does(task):
    first = plan(configuration(task, "full", batch_size=32), PlanSettings(context=0, workspaces=0, fragmentation=0))
    smaller = plan(replace(first.config, train=replace(first.config.train, batch_size=1)), first.settings)
    lines = to_fit(first, smaller.needed)
    assert "--train.batch-size 1" in lines[1]
    assert lines[-1].endswith("which fits")
    assert "smaller base" in to_fit(first, 1e-4)[-1]
    assert to_fit(first, 80) == []


def test_times_are_flops_over_a_share_of_the_rate(task):
    result = plan(replace(configuration(task), train=replace(configuration(task).train, steps=100, epochs=None)))
    flops = result.prediction.training.flops
    assert flops > 6 * result.train.batch_size * 40 * 0.5 * result.prediction.total
    text = "\n".join(durations(result, None, flops / 1e12))  # a step takes a second at the peak rate
    assert "2.00 s to 5.00 s" in text
    assert "training, 100 steps: 3.3 min to 8.3 min" in text
    assert "no time is estimated" in "\n".join(durations(result, card_of("12"), None))


def test_cards_have_sources_and_tf32_is_the_rate_of_fp32_products():
    assert all(card.source for card in known_cards().values())
    assert card_of("A100-80GB").rate("no") == ("tf32", 156e12)
    assert card_of("t4").rate("no") == ("fp32", 8.1e12)
    assert card_of("t4").rate("bf16") == ("fp32", 8.1e12)  # it has none: products are computed in fp32
    assert card_of("12 GB").memory == 12
    with pytest.raises(UsageError, match="did you mean 'a100-"):
        card_of("a100")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | TOKENS))
    return tmp_path


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", *words])
    main()


def test_the_command_names_categories_phases_gpus_and_allowances(monkeypatch, capsys, folder):
    words = ["--task.base", str(folder), "--task.max-length", "32", "--train.batch-size", "2", "--card", "t4"]
    run(monkeypatch, "lora", "style", *words)
    printed = capsys.readouterr()
    parts = ("weights", "optimizer", "activations", "training step", "likelihood", "80 GB", "largest batch")
    allowances = ("CUDA context", "cuBLAS and cuDNN", "(9%) for fragmentation")
    for part in (*parts, *allowances, "batch 2", "NVIDIA T4", "it fits"):
        assert part in printed.out
    assert "predicting: training step" in printed.err


def test_methods_side_by_side(monkeypatch, capsys, folder):
    run(monkeypatch, "lora", "full", "bottleneck", "style", "--task.base", str(folder), "--train.batch-size", "2")
    printed = capsys.readouterr()
    rows = [line.split()[0] for line in printed.out.splitlines() if line.endswith(tuple("0123456789"))]
    assert [name for name in rows if name in ("lora", "full", "bottleneck")] == ["lora", "full", "bottleneck"]
    assert "on 24 GB" in printed.out
    assert "2 of 3: full" in printed.err


def test_the_grid_is_a_table_and_a_plot(monkeypatch, capsys, folder):
    words = ["--task.base", str(folder), "--grid", "rank=1,4", "batch-size=1,2,3", "gradient_checkpointing"]
    run(monkeypatch, "lora", "style", *words, "--output", str(folder / "grid.svg"))
    table = pd.read_csv(folder / "grid.csv")
    assert len(table) == 2 * 3 * 2
    assert list(table["batch_size"][:4]) == [1, 1, 2, 2]
    assert (folder / "grid.svg").read_text().lstrip().startswith("<?xml")
    assert min(table["largest batch"].tolist()) > 3
    for _, part in table.groupby(["rank", "gradient_checkpointing"]):
        assert list(part["training peak (GiB)"]) == sorted(part["training peak (GiB)"])
    assert all("(GiB)" in name for name in table.columns if "peak" in name or name.startswith("needed"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--grid", "rnak=1"], "did you mean 'rank'"),
        (["--grid", "rank=many"], "expected values such as"),
        (["--grid", "mixed_precision=fp8"], "expected values such as mixed_precision=no,bf16"),
        (["--task.base-precision", "bf16", "--train.mixed-precision", "no"], "--train.mixed-precision bf16"),
        (["--grid", "batch_size", "--output", "plot.txt"], "must end in"),
        (["--card", "huge"], "neither a card"),
        (["--grid", "batch_size=0,1"], "--train.batch-size must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(monkeypatch, folder, words, says):
    with pytest.raises(UsageError, match=says):
        run(monkeypatch, "lora", "style", "--task.base", str(folder), *words)


def test_published_peaks_take_no_options(monkeypatch):
    with pytest.raises(UsageError, match="no further arguments"):
        run(monkeypatch, "published", "--card", "t4")


def test_cards_of_the_table_are_sorted():
    assert sorted(CARDS) == list(CARDS)
