"""PSCP against the published script's numbers, and what it refuses."""

from __future__ import annotations

import pytest

import reports
from reports.__main__ import main
from reports.errors import ReportError
from reports.records import collect
from reports.sweeps.pscp import Penalties, scores
from reports.tables import build
from tests.reports.synthetic import figure, record, write

# Performance, trained parameters, TFLOP added to inference, GB of training memory, PSCP:
# the inputs of PEFT-Factory's scripts/peftfactory/cal_psqp.py, and what its function gives for them
PUBLISHED = {
    "ia3": (74.7, 196608, 8.69 - 8.38, 28.41, 55.62),
    "prompt-tuning": (50, 409600, 10.05 - 8.38, 42.47, 29.49),
    "prefix-tuning": (45.9, 34177536, 8.39 - 8.38, 27.61, 33.17),
    "p-tuning": (51.7, 53130752, 10.06 - 8.38, 34.53, 29.26),
    "lora": (80.1, 14680064, 0.0, 27.75, 60.08),
    "lntuning": (77.8, 266240, 0.0, 27.43, 60.19),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_published_scores(method):
    performance, parameters, teraflop, gigabytes, score = PUBLISHED[method]
    costs = {"parameters": parameters, "flops": teraflop * 1e12, "memory": gigabytes * 1e9}
    factors = Penalties().factors(costs)
    assert performance * factors["parameters"] * factors["flops"] * factors["memory"] == pytest.approx(score, abs=0.006)


def by_hand(p: float, parameters: float, memory: float, exponents: tuple[float, float, float]) -> float:
    return p / (1 + parameters / 5e8) ** exponents[0] / (1 + memory / 94e9) ** exponents[2]


@pytest.fixture
def runs(tmp_path):
    for method, size, bleu in (("lora", 8, 60.0), ("full", None, 62.0)):
        metrics = {"bleu": figure(bleu, better="higher", unit="%"), "loss": figure(1.0)}
        write(tmp_path, record(method, size, metrics=metrics, primary_metric="bleu"))
    return tmp_path


def test_a_score_of_records_by_hand(runs, capsys):
    (first, second) = scores(build(collect(runs), "drawings"), Penalties())
    assert (first.group.method, second.group.method) == ("full", "lora")
    assert second.value == pytest.approx(by_hand(60, 8000, 1.2e9, (1, 1, 1)))
    main(["score", "drawings", "--runs", str(runs), "--exponents", "40", "1", "2"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:4]] == ["lora", "full"]  # parameters count more now
    assert float(rows[2][2]) == pytest.approx(by_hand(60, 8000, 1.2e9, (40, 1, 2)), abs=0.01)
    assert any("exponent" in row and "40," in row for row in rows)


def test_operations_added_to_inference_are_those_beyond_full(tmp_path):
    for method, size, forward in (("lora", 8, 13_000_000_000_000), ("full", None, 8_000_000_000_000)):
        metrics = {"bleu": figure(60.0, better="higher")}
        flops = {"forward": forward, "backward": 0, "optimizer": 0, "total": forward}
        write(tmp_path, record(method, size, metrics=metrics, primary_metric="bleu", flops=flops))
    found = {score.group.method: score for score in scores(build(collect(tmp_path), "drawings"), Penalties())}
    assert found["lora"].factors["flops"] == pytest.approx(1 / 1.5)
    assert found["full"].factors["flops"] == 1


def test_a_share_counts_in_percent(tmp_path):
    metrics = {"accuracy": figure(0.5, better="higher", unit="share", base=None)}
    write(tmp_path, record(metrics=metrics, primary_metric="accuracy"))
    (score,) = scores(build(collect(tmp_path), "drawings"), Penalties())
    assert score.performance == 50


def test_refusals_are_one_sentence(runs):
    with pytest.raises(ReportError, match="less of 'loss' is: expected one of bleu"):
        reports.plot("score", runs, metric="loss")
    with pytest.raises(ReportError, match="expected three --scales, above 0"):
        main(["score", "drawings", "--runs", str(runs), "--scales", "0", "1", "1"])
