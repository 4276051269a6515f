"""Published numbers against ours: counts, agreement with printed numbers, claims from records."""

import json

import pytest

from experiments.paper import PUBLISHED
from experiments.papers.claims import NOT_MEASURED, Claim, Claims
from experiments.papers.parameter_counts import agrees, compare_parameter_count, verdict

DATA = json.loads(PUBLISHED.read_text())
LANGUAGE = [row for row in DATA["counts"] if DATA["bases"][row["base"]]["task"] == "style"]


@pytest.mark.parametrize("row", LANGUAGE, ids=lambda row: f"{row['where']}, {row['what']}")
def test_published_parameter_counts(row):
    result = compare_parameter_count(row, DATA["bases"])
    assert result["ours"] == row["by_formula"]
    assert result["verdict"].startswith("exact")


@pytest.mark.parametrize(
    ("printed", "value", "expected"),
    [
        ("0.37M", 368_784, True),
        ("37.7M", 37_748_736, True),
        ("0.35M", 393_216, False),
        ("20.2M", 18_874_368, False),
        ("301.9M", 301_989_888, True),  # cut off, not rounded
        ("354.92M", 354_823_168, False),
    ],
)
def test_agreement_to_the_last_printed_digit(printed, value, expected):
    assert agrees(printed, value) is expected


def test_a_different_count_shows_the_difference():
    assert verdict({"by_formula": 100, "printed": None}, 90) == "differs from the formula by -10"


def record(method: str, value: float, seconds: float, rank: int | None = None) -> dict:
    return {
        "schema": 2,
        "status": "finished",
        "task": "e2e",
        "method": method,
        "primary_metric": "bleu",
        "metrics": {"bleu": {"value": value, "base": 10.0}},
        "size": rank and {"field": "rank", "value": rank},
        "seconds": {"step_median": seconds},
        "config": {"task": {"base": "b"}, "train": {"batch_size": 8, "mixed_precision": "no"}},
    }


def test_claims_from_records(tmp_path):
    records = [record("full", 60.0, 0.9), record("lora", 35.0, 0.6, rank=1), record("lora", 58.0, 0.6, rank=16)]
    for index, values in enumerate(records):
        folder = tmp_path / "e2e" / values["method"] / str(index)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(values))
    claims = Claims(DATA, tmp_path)
    low = claims.low_rank("guide")
    assert "50% of full's gain on e2e" in low.ours
    assert low.verdict.startswith("does not hold")
    faster = claims.faster("paper", "faster", 1.33)
    assert "1.50 on e2e" in faster.ours
    assert faster.verdict == "holds"


def test_a_merged_adapter_costs_nothing_if_its_interval_stays_within_one_percent(tmp_path):
    def claim(low: float, high: float) -> Claim:
        content = record("lora", 0, 0, rank=4) | {
            "inference": {"merged": {"median": 1.005, "low": low, "high": high, "n": 40}}
        }
        (folder / "costs.json").write_text(json.dumps(content))
        return Claims(DATA, tmp_path).merged("guide")

    folder = tmp_path / "e2e" / "lora" / "1"
    folder.mkdir(parents=True)
    assert (claim(0.99, 1.008).verdict, claim(1.012, 1.02).verdict) == ("holds", "does not hold")
    assert claim(0.9, 1.1).verdict.startswith("open: an interval reaches past 1.01")
    assert "1.005 [0.990, 1.008] on e2e (rank 4), n=40 rounds" in claim(0.99, 1.008).ours


def test_an_unmeasured_claim_names_the_command(tmp_path):
    claim = Claims(DATA, tmp_path).low_rank("guide")
    assert claim.ours == NOT_MEASURED
    assert claim.command.startswith("python -m experiments.run")
