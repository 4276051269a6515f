"""One verdict on two groups: the same in every report and view, with the promised false alarms, power, equivalence."""

from __future__ import annotations

import math
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.__main__ import main
from reports.plots.draw import draw
from reports.records import Run, collect
from reports.run_groups import RunGroup
from reports.schema import Config, FigureRecord, ParametersRecord, Record, Size
from reports.statistics.gains import gain, moved_by_gain
from reports.statistics.verdicts import Verdicts, planned_reference
from reports.tables import build
from tests.reports.synthetic import record, study, write, write_items

BASE = 0.0  # the untuned base's score; full scores 100


def group(name: str, values, size: float | None = None, settings=None, evaluation=None) -> RunGroup:
    """A group of runs with these scores; without a size all weights train."""
    runs = []
    for seed, value in enumerate(values):
        figure = FigureRecord(float(np.mean(value)), base=BASE, evaluation=evaluation and list(value))
        runs.append(
            Run(
                None,  # type: ignore[arg-type]
                Record(
                    schema=2,
                    task="t",
                    method=name,
                    fingerprint=f"{name}-{seed}",
                    status="finished",
                    seed=seed,
                    primary_metric="score",
                    metrics={"score": figure},
                    config=Config(),
                    parameters=ParametersRecord(trainable=10 if size is None else 1, total=10),
                ),
            )
        )
    return RunGroup(name, None if size is None else Size("rank", size), settings or {}, tuple(runs), ())


def verdicts_of(groups) -> dict[str, Any]:
    found = Verdicts(groups, "score", False, planned_reference(groups))
    reference = next(i for i, each in enumerate(groups) if each is planned_reference(groups))
    return {each.label: found.of(i, reference) for i, each in enumerate(groups) if i != reference}


def simulated(rng, shifts, seeds=5, shared=1.0, own=1.0):
    """Groups whose runs share the noise of their seed; the first is full."""
    noise = shared * rng.normal(size=seeds)
    values = [100 + shift + noise + own * rng.normal(size=seeds) for shift in (0, *shifts)]
    return [group("full" if i == 0 else "lora", each, i or None) for i, each in enumerate(values)]


def test_false_alarms_of_a_whole_table_are_five_percent():
    """In 600 tables of 5 ranks that are as good as full, at most 5 % (+ 3 standard errors) report any difference."""
    rng, tables = np.random.default_rng(0), 600
    alarms = sum(
        any(verdict.better is not None for verdict in verdicts_of(simulated(rng, [0] * 5)).values())
        for _ in range(tables)
    )
    assert alarms / tables <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / tables)


def test_the_power_at_the_printed_detectable_difference_is_80_percent():
    """Each study prints the difference that it can detect; its repetition has that true difference in one rank."""
    rng, studies, found = np.random.default_rng(1), 500, 0
    for _ in range(studies):
        printed = verdicts_of(simulated(rng, [0] * 5))["lora 3"].detectable
        found += verdicts_of(simulated(rng, [0, 0, printed, 0, 0]))["lora 3"].better is True
    assert found / studies == pytest.approx(0.8, abs=3 * np.sqrt(0.8 * 0.2 / studies))


def test_the_correction_counts_planned_contrasts_alone():
    rng = np.random.default_rng(2)
    groups = simulated(rng, [-4, -4, -4], shared=0)
    found = verdicts_of(groups)
    raw = [verdict.difference.p for verdict in found.values()]
    assert min(verdict.p for verdict in found.values()) == pytest.approx(3 * min(raw))


@pytest.mark.parametrize(("shift", "rate"), [(0, (0.9, 1)), (5, (0.01, 0.08)), (-5, (0.01, 0.08)), (-7, (0, 0.01))])
def test_equivalence_within_5_percent_of_the_gain(shift, rate):
    """At the margin itself (5 of a gain of 100) the wrong claim "equivalent" is made at most 5 % of the time."""
    rng = np.random.default_rng(3)
    found = [verdicts_of(simulated(rng, [shift], seeds=6))["lora 1"].equivalent for _ in range(400)]
    assert rate[0] <= np.mean(found) <= rate[1]


def test_equivalence_where_lower_is_better():
    """The same scores with their sign changed, so that the base is above: the same answers."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        groups = simulated(rng, [-3])
        flipped = [group(g.method, [-v for v in g.values("score")], g.size and g.size.value) for g in groups]
        answers: list[Any] = [
            Verdicts(each, "score", lower, each[0]).of(1, 0) for each, lower in ((groups, False), (flipped, True))
        ]
        assert answers[0].equivalent == answers[1].equivalent
        assert answers[0].better == answers[1].better


def test_a_reference_that_gains_nothing_gives_no_margin():
    assert verdicts_of([group("full", [-1.0, -2.0]), group("lora", [-1.0, -2.1], 1)])["lora 1"].equivalent is None


def test_runs_are_paired_if_they_share_seeds_and_order():
    full = group("full", [1.0, 2.0, 4.0])
    for settings, paired in (
        ({"train.learning_rate": 1}, True),
        ({"train.batch_size": 1}, False),
        ({"task.x": 1}, False),
    ):
        assert verdicts_of([full, group("lora", [2.0, 3.5, 5.0], 1, settings)])["lora 1"].paired is paired
    assert verdicts_of([full, group("lora", [2.0, 3.5], 1)])["lora 1"].paired is False


def test_the_noise_of_shared_evaluations_cancels():
    """Every training is measured under 5 evaluation seeds whose noise, shared by all, is large."""
    rng = np.random.default_rng(6)
    shared = 10 * rng.normal(size=(1, 5))
    values = [100 + shift + shared + rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(4, 5)) for shift in (0, -6)]
    groups = [group("full", values[0], evaluation=True), group("lora", values[1], 1, evaluation=True)]
    assert verdicts_of(groups)["lora 1"].better is False
    mean: Any = groups[0].mean("score")
    assert mean.how == "t over both seeds"
    assert mean.high - mean.low > 8


def test_the_reference_is_the_group_that_trains_everything():
    partly = group("full", [90.0, 91.0, 92.0, 93.0], 2)  # a size: the top blocks
    whole, other = group("full", [1.0, 2.0]), group("full", [3.0, 4.0, 5.0], settings={"train.steps": 3})
    assert planned_reference([partly, whole]) is whole
    assert planned_reference([whole, other]) is other  # more seeds, whatever the figures
    assert planned_reference([partly]) is None


def test_of_several_references_the_validation_loss_decides():
    """Not the figures of the test, which the best of many owes to luck as well."""
    rates = [
        group("full", [score], settings={"train.learning_rate": rate}) for rate, score in enumerate((9.0, 1.0, 5.0))
    ]
    for loss, each in zip((3.0, 2.0, 4.0), rates, strict=True):
        each.finished[0].record.metrics["validation_loss"] = FigureRecord(loss)
    assert planned_reference(rates) is rates[1]


@given(st.floats(1.01, 3.0), st.floats(-1.0, 1.0))
def test_a_perplexity_gains_in_its_loss(loss, share):
    base, value = math.exp(5.0), math.exp(loss)
    assert gain("test_perplexity", value, base) == pytest.approx(loss - 5.0)
    (moved,) = moved_by_gain("test_perplexity", np.array([value]), base, share)
    assert math.log(moved) == pytest.approx(loss + share * (loss - 5.0))


@pytest.fixture
def runs(tmp_path):
    study(tmp_path / "runs")
    for method, size in (("lora", 1), ("lora", 8), ("full", None)):
        write_items(tmp_path / "runs" / "drawings" / method / f"{method}-{size}-0", [0.1, 0.2, 0.3])
    return tmp_path / "runs"


def cells(text: str) -> dict[str, tuple[str, str]]:
    """Verdict and detectable difference of each row of a Markdown table."""
    rows = re.findall(r"^\| *(lora|full) *\| *(\d*) *\|[^|]*\|[^|]*\| *([^|]*?) *\| *([^|]*?) *\|", text, re.MULTILINE)
    return {f"{method} {size}".strip(): (verdict, detectable) for method, size, verdict, detectable in rows}


def test_table_compare_page_and_plot_give_the_same_verdict(runs, tmp_path, capsys):
    """With p-value, planned contrasts, detectable difference and equivalence."""
    main(["table", "drawings", "--runs", str(runs), "--format", "md"])
    table = capsys.readouterr().out
    verdicts = cells(table)
    assert verdicts.pop("full") == ("(reference)", "")
    assert set(verdicts) == {"lora 1", "lora 8"}
    assert verdicts["lora 1"][0].startswith("worse (p ")
    assert verdicts["lora 8"][0] == "not significant, within 5 %"
    main(["page", "--runs", str(runs), "--output", str(tmp_path)])
    page = unescape((tmp_path / "index.html").read_text())
    list(draw(collect(runs), tmp_path / "plots"))
    plot = (tmp_path / "plots" / "drawings" / "size-kid.svg").read_text()
    plot = unescape(" ".join("".join(re.findall(r"<!--(.*?)-->", plot, re.DOTALL)).split()))
    family = "Holm's correction for the comparisons with full"
    assert all(family in text for text in (table, page, plot))
    for label, (verdict, detectable) in verdicts.items():
        folders = [
            str(runs / "drawings" / "lora" / f"lora-{label.split()[1]}-0"),
            str(runs / "drawings/full/full-None-0"),
        ]
        sentence = f"{verdict}, detectable difference {detectable}"
        for pair in (folders, folders[::-1]):
            main(["compare", *pair])
            text = capsys.readouterr().out
            assert f"Over seeds, {label} against full" in text
            assert f"kid: {sentence}" in text.splitlines()
            assert family in text
        assert re.search(rf">{re.escape(verdict)}</td>\s*<td[^>]*>{re.escape(detectable)}</td>", page)
        assert f"{label} {sentence}" in plot


def test_the_verdict_does_not_depend_on_the_view(runs):
    """`--against full`, `--by rank` and `--against lora:1` once turned "not significant" into "worse"."""
    collection = collect(runs)
    views = [{}, {"by": "rank"}, {"against": "full"}, {"against": "lora:1"}, {"against": "lora:8"}]
    seen: dict[frozenset, set] = {}
    for view in views:
        table = build(collection, "drawings", **view)
        for (metric, row), verdict in table.verdicts.items():
            assert table.reference is not None
            pair = frozenset({table.rows[row].label, table.reference.label})
            seen.setdefault(frozenset({metric, *pair}), set()).add(
                (verdict.p, verdict.equivalent, verdict.better is None)
            )
    assert len(seen) == 2 * 3
    assert {len(answers) for answers in seen.values()} == {1}


def test_compare_across_folders_says_why_there_is_no_verdict_over_seeds(runs, tmp_path, capsys):
    elsewhere = write(tmp_path / "elsewhere", record("lora", 1, 0))
    write_items(elsewhere, [0.1, 0.2, 0.3])
    main(["compare", str(elsewhere), str(runs / "drawings/full/full-None-0")])
    assert "Over seeds: the two runs do not lie in one folder" in capsys.readouterr().out
    other = runs / "drawings" / "lora" / "lora-1-1"
    write_items(other, [0.1, 0.2, 0.3])
    main(["compare", str(runs / "drawings/lora/lora-1-0"), str(other)])
    assert "both runs belong to one method" in capsys.readouterr().out
