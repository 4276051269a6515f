"""Where a metric is best over one setting, checked by hand."""

import pytest

from reports.__main__ import main
from reports.errors import ReportError
from reports.peaks import peaks
from reports.records import collect
from reports.tables import build
from tests.reports.synthetic import figure, record, write


def capacity_runs(folder):
    """LoRA 1 is full at 200 pairs, LoRA 2 still grows at 400; the number of steps follows that of pairs."""
    for rank, bits in {1: {100: 1.0, 200: 1.9, 400: 1.7}, 2: {100: 0.5, 200: 1.0, 400: 1.8}}.items():
        for pairs, value in bits.items():
            for seed in range(3):
                content = record(size=rank, seed=seed, fingerprint=f"{rank}-{pairs}-{seed}")
                content["config"]["task"]["pairs"] = pairs
                content["config"]["train"]["steps"] = 10 * pairs
                content["metrics"] = {"bits": figure(value + (seed - 1) / 100, better="higher", unit="bits", base=0.0)}
                write(folder, content | {"primary_metric": "bits"})


def test_the_peak_of_each_size(tmp_path):
    capacity_runs(tmp_path)
    first, second = peaks(build(collect(tmp_path), "drawings"), "task.pairs", "bits")
    assert [group.settings["task.pairs"] for group in first.groups] == [100, 200, 400]
    assert (first.best, first.at_an_end) == (1, None)
    assert (second.best, second.at_an_end) == (2, "largest")
    assert first.settings == second.settings == "", "steps follow the number of pairs"


def test_lower_can_be_better(tmp_path):
    for pairs, kid in {1: 30.0, 2: 10.0, 3: 20.0}.items():
        content = record(kid=kid, fingerprint=str(pairs))
        content["config"]["task"]["pairs"] = pairs
        write(tmp_path, content)
    (peak,) = peaks(build(collect(tmp_path), "drawings"), "task.pairs", "kid")
    assert peak.groups[peak.best].settings["task.pairs"] == 2


def test_other_settings_make_lines_of_their_own(tmp_path):
    for alpha in (8, 16):
        for pairs in (1, 2):
            content = record(kid=float(pairs), fingerprint=f"{alpha}-{pairs}")
            content["config"]["task"]["pairs"] = pairs
            content["config"]["adapter"]["alpha"] = alpha
            write(tmp_path, content)
    found = peaks(build(collect(tmp_path), "drawings"), "task.pairs", "kid")
    assert {peak.settings for peak in found} == {"alpha 8", "alpha 16"}


def test_the_text_has_the_figures_and_says_what_is_a_bound(tmp_path, capsys):
    capacity_runs(tmp_path)
    main(["peak", "drawings", "--over", "task.pairs", "--metric", "bits", "--runs", str(tmp_path)])
    text = capsys.readouterr().out
    lora_1, lora_2 = (line for line in text.splitlines() if line.startswith("lora"))
    assert "1.900 [1.875, 1.925]" in lora_1
    assert lora_1.endswith("yes")
    assert "1,000" in lora_1
    assert lora_2.endswith("no, the largest")
    assert "so the figure is a bound" in text


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("task.pair", r"do not differ in 'task.pair' \(did you mean 'task.pairs'\?\); they differ in .*task.pairs"),
        ("task.colour", "'task.colour' has the value"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, setting, says):
    capacity_runs(tmp_path)
    for colour in ("red", "blue"):
        content = record(fingerprint=colour, size=1)
        content["config"]["task"] |= {"colour": colour, "pairs": 800}
        content["metrics"] = {"bits": figure(1.0)}
        write(tmp_path, content | {"primary_metric": "bits"})
    with pytest.raises(ReportError, match=says):
        peaks(build(collect(tmp_path), "drawings"), setting, "bits")
