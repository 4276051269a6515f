"""Quality along training: fixed items, the training unchanged, resumed curves, and the best steps."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.config import RunConfig, Train
from experiments.measure.memory.prediction import predict
from experiments.session import run
from experiments.training.callbacks import Callback
from experiments.training.logs.quality_curve import best_steps
from tasks.fixed_part import fixed_part
from tests.experiments.tiny_task import Tiny
from tests.survival.runner import tiny_style

SETTINGS: dict[str, Any] = {"device": "cpu", "steps": 6, "ema_decay": 0.9, "checkpointing_steps": 2}
EVERY_TWO: dict[str, Any] = {**SETTINGS, "evaluate_every": 2}
LORA = Lora(rank=2, dropout=0.3)


def curve_of(record) -> list[dict]:
    return [json.loads(line) for line in (record.folder / "curve.jsonl").read_text().splitlines()]


def without_seconds(lines: list[dict]) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def losses_of(record) -> list[tuple]:
    lines = [json.loads(line) for line in (record.folder / "steps.jsonl").read_text().splitlines()]
    return [(line["loss"], line["gradient_norm"], line.get("validation_loss")) for line in lines]


def test_the_training_is_the_same_to_the_bit(tiny_task, tmp_path):
    with_curve = run(LORA, Tiny(), runs=tmp_path / "with", **EVERY_TWO)
    without = run(LORA, Tiny(), runs=tmp_path / "without", **SETTINGS)
    files = [(record.folder / "adapter.safetensors").read_bytes() for record in (with_curve, without)]
    from safetensors.torch import load

    states = list(map(load, files))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert losses_of(with_curve) == losses_of(without)
    assert with_curve.data["metrics"] == without.data["metrics"]
    assert not (without.folder / "curve.jsonl").exists()


def test_a_curve_starts_at_the_untuned_base_and_ends_at_the_averaged_weights(tiny_task, tmp_path):
    record = run(LORA, Tiny(), runs=tmp_path, **EVERY_TWO)
    lines = curve_of(record)
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    values = [line["metrics"]["test_loss"]["value"] for line in lines]
    figure = record.figure("test_loss")
    assert values[0] == figure.base
    assert values[-1] == pytest.approx(figure.value, rel=1e-6)  # merged weights round in other places
    assert {line["metrics"]["test_loss"]["n"] for line in lines} == {16}
    seconds = record.data["seconds"]
    assert seconds["curve"] == pytest.approx(sum(line["seconds"] for line in lines), abs=0.03)
    best = record.data["training"]["best"]
    assert best["test_loss"] == {"step": [2, 4, 6][int(np.argmin(values[1:]))], "value": min(values[1:]), "n": 16}
    validation = [loss[2] for loss in losses_of(record)]
    assert best["validation_loss"]["step"] == 1 + int(np.nanargmin(np.array(validation, float)))


class Stop(Callback):
    """Ends the training as a kill would in step 5: evaluations are on the disk that no checkpoint knows."""

    def on_step(self, trainer, step, line):
        if step == 5:
            raise ZeroDivisionError


def test_a_resumed_curve_is_that_of_an_uninterrupted_run(tiny_task, tmp_path):
    settings = {**SETTINGS, "evaluate_every": 1, "checkpointing_steps": 3}
    with pytest.raises(ZeroDivisionError):
        run(LORA, Tiny(), runs=tmp_path / "cut", callbacks=[Stop()], **settings)
    (file,) = (tmp_path / "cut").rglob("curve.jsonl")
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 1, 2, 3, 4]
    resumed = run(LORA, Tiny(), runs=tmp_path / "cut", **settings)
    whole = run(LORA, Tiny(), runs=tmp_path / "whole", **settings)
    assert resumed.data["training"]["resumed_from"] == 3
    assert without_seconds(curve_of(resumed)) == without_seconds(curve_of(whole))
    assert resumed.data["training"]["best"] == whole.data["training"]["best"]


@pytest.mark.parametrize(("better", "step"), [("higher", 2), ("lower", 6)])
def test_the_best_step_is_the_first_of_the_best(better, step):
    steps = [{"step": i, "validation_loss": loss} for i, loss in enumerate([3.0, math.nan, 1.0, 1.0, 2.0], 1)]
    curve = [{"step": s, "metrics": {"bleu": {"value": v, "n": 4}}} for s, v in [(0, 9), (2, 5), (4, 5), (6, 1)]]
    best = best_steps([{"step": 0}, *steps], [*curve, {"step": 8, "metrics": {}}], "bleu", better)
    assert best["validation_loss"] == {"step": 3, "value": 1.0}
    assert best["bleu"] == {"step": step, "value": {2: 5, 6: 1}[step], "n": 4}
    assert best_steps([], [], "bleu", better) == {}


@pytest.mark.parametrize(
    ("count", "share", "size"), [(60, 0.1, 6), (60, 0.001, 2), (1, 0.5, 1), (7, 1.0, 7), (0, 0.5, 0)]
)
def test_a_part_has_distinct_items_in_order(count, share, size):
    part = fixed_part(count, share)
    assert (len(part), part) == (size, sorted(set(part) & set(range(count))))
    assert part == fixed_part(count, share)


def test_a_part_of_a_text_has_the_likelihoods_of_the_whole(tmp_path):
    """Bits per byte of a third of the parts, from the items of the whole evaluation."""
    task = replace(tiny_style(tmp_path), test_items=9, drift_items=6)
    prepared = task.prepare(torch.device("cpu"))
    whole, part = prepared.evaluate(), prepared.evaluate_part(1 / 3)
    chosen = fixed_part(9, 1 / 3)
    assert [item["item"] for item in part.items] == chosen
    nats = [whole.items[i]["nats"] for i in chosen]
    assert [item["nats"] for item in part.items] == pytest.approx(nats, rel=1e-5)
    size = sum(len(whole.items[i]["text"].encode()) for i in chosen)
    assert part.figures["bits_per_byte"].value == pytest.approx(sum(nats) / size / math.log(2), rel=1e-5)
    assert {name: part.figures[name].n for name in ("perplexity", "bits_per_byte")} == {
        "perplexity": 3,
        "bits_per_byte": 3,
    }
    assert "validation_loss" not in part.figures
    drift = prepared.finish(part, prepared.evaluate_part(1 / 3)).figures["drift"]
    assert (drift.value, drift.n) == (0, len(fixed_part(len(prepared.familiar), 1 / 3)))


def test_a_plan_counts_the_evaluation_beside_the_optimizer(tmp_path):
    task = replace(tiny_style(tmp_path), max_length=40)
    peaks = []
    for every in (None, 2):
        train = Train(device="cpu", steps=4, batch_size=1, evaluate_every=every)
        prediction = predict(RunConfig(PrefixTuning(length=8), task, train).resolved())
        peaks.append({phase.name: phase.peak for phase in prediction.phases})
        moments = 2 * 4 * prediction.trainable
    between = {name: peak for name, peak in peaks[1].items() if name not in peaks[0]}
    ((name, peak),) = between.items()
    alone = peaks[1][name.removesuffix(", between steps")]
    assert moments <= peak - alone <= moments + 4 * 1024 + moments / 2  # and the steps' counts
