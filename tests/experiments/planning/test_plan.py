"""`plan`: what each setting adds, which GPUs a run fits, the largest batch, methods side by side, the grid."""

import json
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from adapters.base import adapter_registry
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.measure.memory.frozen_weights import store, stored_bytes
from experiments.measure.memory.phases import Phase
from experiments.measure.memory.prediction import predict_training
from experiments.plan import main
from experiments.planning import advice
from experiments.planning.advice import surprises, to_fit
from experiments.planning.cards import card_of, known_cards
from experiments.planning.durations import SHARES, durations, span
from experiments.planning.memory_plan import CARDS, GIB, PlanSettings, assumptions_of, plan, resolved_for
from experiments.precision import stored_in
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tests.experiments.measure.test_memory import SHAPE, TOKENS, configuration
from tests.experiments.measure.test_memory import task as task  # a fixture
from tests.tasks.diffusion.tiny_base import RESOLUTION, write_base

CPU = PlanSettings(device="cpu")
EXACT = PlanSettings(context=0, workspaces=0, fragmentation=0)  # without allowances


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Any]:
    """Settings of a task with a tiny Stable Diffusion."""
    return {"base": str(write_base(tmp_path_factory.mktemp("bases") / "tiny")), "resolution": RESOLUTION}


def training_peak(config: RunConfig, settings: PlanSettings = CPU, **train) -> int:
    return training_step(replace(config, train=replace(config.train, **train)), settings).peak


def training_step(config: RunConfig, settings: PlanSettings = EXACT) -> Phase:
    """Without the evaluation, which takes longer to predict."""
    return predict_training(resolved_for(config, settings.device), assumptions_of(settings))


@pytest.mark.parametrize(
    ("method", "checkpointing"),
    [
        ("lora", True),
        ("full", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("lora", False), ("full", True), ("subspace", False), ("subspace", True)]
        ),
    ],
)
def test_a_step_traced_at_a_prime_batch_is_the_step(monkeypatch, pictures, method, checkpointing):
    from tasks.diffusion.model.meta_model import DiffusionMetaModel

    train = Train(batch_size=3, gradient_checkpointing=checkpointing, mixed_precision="no")
    config = RunConfig(adapter_registry()[method](), Pokemon(**pictures), train)
    at_a_prime = training_step(config)
    assert at_a_prime.traced
    monkeypatch.setattr(DiffusionMetaModel, "scales_with_batch", False)
    itself = training_step(config)
    assert itself.traced is None
    assert at_a_prime.peak == pytest.approx(itself.peak, rel=0.005)
    assert at_a_prime.flops == pytest.approx(itself.flops, rel=0.005)


@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
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


def test_prior_preservation_doubles_the_batch(pictures):
    with_prior, doubled = (
        training_step(RunConfig(Lora(), DreamBooth(prior_preservation=prior, **pictures), Train(batch_size=batch)), CPU)
        for prior, batch in ((True, 3), (False, 6))
    )
    assert with_prior.peak == pytest.approx(doubled.peak, rel=0.01)
    assert with_prior.flops == pytest.approx(doubled.flops, rel=0.01)


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
    first = plan(configuration(task, "full", batch_size=32), EXACT)
    one = replace(first.config.train, batch_size=1, gradient_accumulation_steps=32)
    smaller = plan(replace(first.config, train=one), first.settings)
    lines = to_fit(first, smaller.needed)
    words = "--train.batch-size 1 --train.gradient-accumulation-steps 32"  # what is printed is what is predicted
    assert lines[1:] == [f"  {words}: {smaller.needed:.2f} GiB, which fits"]
    assert "smaller base" in to_fit(first, 1e-4)[-1]
    assert to_fit(first, 80) == []


@pytest.fixture
def wide(tmp_path) -> EndToEnd:
    """Texts on a model whose weights are most of what it needs."""
    shape = {"n_embd": 1024, "n_layer": 3, "n_head": 8, "n_positions": 64, "vocab_size": 20_000}
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | TOKENS | shape))
    return EndToEnd(base=str(tmp_path), max_new_tokens=24, test_items=8, drift_items=2, num_beams=8)


def changes_of(lines: list[str]) -> dict[str, float]:
    """GiB by the changes that are printed."""
    return {
        line.split(": ")[0].strip(): float(line.split(": ")[1].split()[0])
        for line in lines
        if " GiB" in line[2:] and line.startswith("  --")
    }


def test_advice_goes_on_where_the_peak_is_then(wide):
    """Once the evaluation is the peak, training's settings lower nothing, and are not offered."""
    first = plan(RunConfig(Lora(), wide, Train(batch_size=16)), EXACT)
    assert first.prediction.training.peak > first.evaluation_peak
    lines = to_fit(first, 0.01)
    changes = changes_of(lines)
    assert list(changes) == [
        "--train.batch-size 1 --train.gradient-accumulation-steps 16",
        "--task.base-precision nf4",
        "--task.num-beams 1",
    ]
    assert sorted(changes.values(), reverse=True) == list(changes.values())
    assert len(set(changes.values())) == 3
    assert lines[-1].strip() == "that is not enough: choose a smaller base"
    middle = plan(replace(first.config, task=replace(first.config.task, base_precision="nf4")), EXACT)
    small = replace(middle.config, train=replace(middle.config.train, batch_size=1))
    assert to_fit(first, plan(small, EXACT).needed + 0.001)[-1].startswith("  --task.base-precision nf4")


def test_a_change_that_did_not_help_is_tried_again_after_one_that_did(monkeypatch):
    """Checkpointing lowers nothing while the optimizer's update is the peak."""
    needed = {(): 10.0, ("a",): 10.0, ("b",): 7.0, ("a", "b"): 4.0}

    def planned(config, settings=None):
        return SimpleNamespace(config=config, settings=settings, needed=needed[config])

    def changed(name: str, config: Any) -> Any:
        return tuple(sorted((*config, name)))

    offered = [advice.Change(name, partial(changed, name)) for name in "ab"]
    monkeypatch.setattr(advice, "plan", planned)
    monkeypatch.setattr(advice, "changes", lambda current: iter(offered))
    first: Any = planned(())
    assert to_fit(first, 5)[1:] == ["  b: 7.00 GiB", "  a: 4.00 GiB, which fits"]
    assert to_fit(first, 1)[1:] == ["  b: 7.00 GiB", "  a: 4.00 GiB", "  that is not enough: choose a smaller base"]


def test_weights_that_train_are_not_offered_in_four_bits(wide):
    lines = to_fit(plan(RunConfig(adapter_registry()["full"](), wide, Train(batch_size=1)), EXACT), 0.01)
    assert not any("nf4" in line for line in lines)


def test_without_a_change_that_helps_there_is_no_list(task):
    config = configuration(replace(task, base_precision="nf4"), batch_size=1, mixed_precision="bf16")
    lines = to_fit(plan(config, EXACT), 1e-5)
    assert len(lines) == 1
    assert "no change known here lowers that" in lines[0]


def test_times_are_flops_over_a_share_of_the_rate(task):
    result = plan(replace(configuration(task), train=replace(configuration(task).train, steps=100, epochs=None)))
    flops = result.prediction.training.flops
    assert flops > 6 * result.train.batch_size * 40 * 0.5 * result.prediction.total
    text = "\n".join(durations(result, None, flops / 1e12))  # a step takes a second at the peak rate
    assert ": 2.0 to 5.0 s" in text
    assert "training, 100 steps: 3.3 to 8.3 min" in text
    assert "no time is estimated" in "\n".join(durations(result, card_of("12"), None))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00033, "0.3 to 0.8 ms"), (0.05, "50 to 120 ms"), (23.62, "24 to 59 s"), (105.9 * 60, "1.8 to 4.4 h")],
)
def test_a_span_has_one_unit_and_two_digits(seconds, words):
    assert span(seconds * SHARES[1], 1) == words


def test_cards_have_sources_and_tf32_is_the_rate_of_fp32_products():
    assert all(card.source for card in known_cards().values())
    assert card_of("A100-80GB").rate("no") == ("tf32", 156e12)
    assert card_of("t4").rate("no") == ("fp32", 8.1e12)
    assert card_of("t4").rate("bf16") == ("fp32", 8.1e12)  # it has none: products are computed in fp32


def test_usable_memory_is_less_than_what_is_sold():
    """By what torch reports, with its source, or 7 % less."""
    for card in known_cards().values():
        assert (card.reported is None) == (card.reported_by is None)
        assert 0.9 * card.memory < card.usable < card.memory
    assert card_of("t4").usable == 14.56
    assert "7 % less" in str(card_of("12 GB"))
    assert card_of("12 GB").usable == pytest.approx(0.93 * 12)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("RTX4090", "rtx-4090"),
        ("A100-SXM80GB", "a100-80gb"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx-2080-ti"),
        ("h100-80gb", "h100"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("A100 80GB PCIe", "a100-80gb"),
        ("40gb", "40 GB"),
        ("11.5 GiB", "11.5 GB"),
    ],
)
def test_cards_as_people_type_them(typed, name):
    assert card_of(typed).name == name


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("a100", "did you mean 'a100-40gb' or 'a100-80gb'"),
        ("2080", "did you mean 'rtx-2080-ti'"),
        ("5090", "up to 1000"),
        ("0", "up to 1000"),
        ("inf", "neither a card"),
        ("huge", "neither a card"),
    ],
)
def test_what_is_no_card(typed, says):
    with pytest.raises(UsageError, match=says):
        card_of(typed)


@pytest.mark.parametrize(
    ("card", "given", "compute"),
    [("t4", None, "fp16"), ("v100", None, "fp16"), ("a10", None, "bf16"), ("t4", "bf16", "bf16"), ("t4", "no", "no")],
)
def test_the_default_precision_is_the_cards(task, card, given, compute):
    """As in a run there: the plan has fp16, and its rate, where the card has no bf16."""
    config = RunConfig(Lora(), task, Train(batch_size=1, mixed_precision=given))
    result = plan(config, PlanSettings(card=card))
    assert result.train.mixed_precision == compute
    assert stored_in(result.config.task) == ("fp32" if compute == "no" else compute)
    dtype = {"fp16": "fp16", "no": "fp32"}.get(compute, "fp32" if card == "t4" else "bf16")
    assert f"{card}, {dtype}" in next(durations(result, card_of(card), None))


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
    text = " ".join(printed.out.split())
    for part in (*parts, *allowances, "batch 2", "NVIDIA T4", "it fits", "14.56 GiB usable", "7 % less"):
        assert part in text
    tables = ("MiB at the peak", "training step", "likelihood", "-", " " * 20)
    assert all(len(line) <= 100 for line in printed.out.splitlines() if not line.startswith(tables))
    assert "predicting: training step" in printed.err


def test_methods_side_by_side(monkeypatch, capsys, folder):
    run(monkeypatch, "lora", "full", "bottleneck", "style", "--task.base", str(folder), "--train.batch-size", "2")
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line.endswith(tuple("0123456789"))]
    rows = [row[:2] for row in rows if row[0] in ("lora", "full", "bottleneck")]
    assert rows == [["lora", "bf16"], ["full", "fp32"], ["bottleneck", "bf16"]]  # frozen weights are a column
    assert printed.out.count("trained weights in fp32") == 1
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
        peaks: list[float] = part["training peak (GiB)"].tolist()
        assert peaks == sorted(peaks)
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
        (["--card", "5090"], "neither a card"),
        (["--grid", "batch_size=0,1"], "--train.batch-size must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(monkeypatch, folder, words, says):
    with pytest.raises(UsageError, match=says):
        run(monkeypatch, "lora", "style", "--task.base", str(folder), *words)


@pytest.mark.parametrize(("task", "base"), [("style", "llama"), ("e2e", "qwen"), ("sd-pokemon", "sd-2.2")])
def test_an_unknown_base_is_refused_before_anything_is_predicted(monkeypatch, capsys, task, base):
    with pytest.raises(TaskError, match=f"'{base}' .*did you mean"):
        run(monkeypatch, "lora", task, "--task.base", base)
    assert capsys.readouterr().err == ""


def test_published_peaks_take_no_options(monkeypatch):
    with pytest.raises(UsageError, match="no further arguments"):
        run(monkeypatch, "published", "--card", "t4")


def test_cards_of_the_table_are_sorted():
    assert sorted(CARDS) == list(CARDS)
