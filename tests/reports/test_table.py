"""The table of a small study, checked by hand, and the warnings below it."""

from __future__ import annotations

import csv
import io
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from reports.__main__ import main
from reports.errors import ReportError
from tests.reports.synthetic import figure, record, study, write

# Student's t with 2 degrees of freedom is 4.3027, so the half-width over three seeds is 2.4841 standard deviations:
# lora 1: 400 410 405 -> 405, sd 5 -> 12.4; lora 8: 302 300 298 -> 300, sd 2 -> 4.97; full: 299 303 301 -> 301, same.
# Differences from full by seed: lora 1: 101 107 104 -> 104, sd 3, t = 60, df 2, p = 0.000277, and Holm's two contrasts
# give 0.00055; lora 8: 3 -3 -3 -> -1, sd 3.46, t = -0.5. 5 % of full's gain are 0.05 (1486 - 301) = 59.
GOLDEN = """\
                                                                 against
method                  rank        seeds                 kid ↓  full
lora                       8  3 +1 failed  300.0 [295.0, 305.0]  not significant, within 5 %
full                                    3  301.0 [296.0, 306.0]  (reference)
lora                       1            3        405 [393, 417]  worse (p 0.00055)
untuned base                                               1486
real data against real                                   -1.000
lora: smallest rank not told apart from full in kid, or better: 8; smallest rank whose mean lies
within 5 % of the gain of full: 8 (shown by a test: 8). A true difference in kid below 22 would be
missed more than once in five studies.
Runs: 9 finished, 1 failed, 1 unfinished, 0 unreadable.
Failed (1): out of memory
kid: lower is better, x1000, n=500, measured with net-a.
[ ]: 95 % interval of the mean over seeds (Student's t).
'better' and 'worse' compare with full: paired t-test (the groups share seeds, data order and noise)
over seeds, p below 0.05 after Holm's correction for the comparisons with full. 'cannot tell': fewer
than two seeds, or seeds without effect.
Detectable difference in kid, 18 to 22: the true difference that a study of this size finds with 80
% power at Holm's level of the comparison.
'within 5 %': the true difference is below 5 % of the gain of full over the untuned base (two
one-sided t-tests, p below 0.05 after Holm's correction).
Too wide for the terminal: detectable difference, trained params, file, train time, step time, total
time, peak memory, clip. See --format csv or md.
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    study(tmp_path)
    return tmp_path


def run(capsys, *arguments: object) -> str:
    main([str(a) for a in arguments])
    return capsys.readouterr().out


def test_golden(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert run(capsys, "table", "drawings", "--runs", runs) == GOLDEN


def test_csv_has_every_number(runs, capsys):
    rows = list(csv.DictReader(io.StringIO(run(capsys, "table", "drawings", "--runs", runs, "--format", "csv"))))
    assert [row["method"] for row in rows] == ["lora", "full", "lora"]
    assert [row["kid.equivalent"] for row in rows] == ["True", "", "False"]  # 5 % of full's gain are 59
    last = rows[-1]
    assert float(last["kid"]) == 405
    assert float(last["kid.low"]) == pytest.approx(392.579, abs=1e-3)
    assert float(last["kid.base"]) == 1486
    assert float(last["train_seconds"]) == 100
    assert [row["clip.verdict"] for row in rows] == [
        "not significant, within 5 %",
        "",
        "better, within 5 %",
    ]  # higher is better


@pytest.mark.parametrize("form", ["md", "latex"])
def test_other_formats_have_the_same_figures(runs, capsys, form):
    text = run(capsys, "table", "drawings", "--runs", runs, "--format", form)
    assert "300.0 [295.0, 305.0]" in text
    assert "9 finished, 1 failed, 1 unfinished" in text


def test_latex_holds_what_stock_pdflatex_takes(tmp_path, capsys):
    content = record(method="Löra ↓ 日 50%_&")
    write(tmp_path, content)
    text = run(capsys, "table", "drawings", "--runs", tmp_path, "--format", "latex")
    assert text.splitlines()[0] == r"% needs \usepackage{booktabs}"
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"Löra $\downarrow$ [U+65E5] 50\%\_\&" in body
    assert r"kid $\downarrow$" in body
    assert max(body) < "\u0180"  # Basic Latin, Latin-1, Latin Extended-A
    assert body.count(r"\begin{tabular}") == body.count(r"\end{tabular}") == 1
    columns = re.search(r"begin\{tabular\}\{(\w+)\}", body)
    assert columns is not None
    rows = [line for line in body.splitlines() if line.rstrip().endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns[1]) - 1}


def test_chosen_metrics_come_before_the_costs(runs, capsys):
    """A terminal shows them all, and the costs that fit."""
    text = run(capsys, "table", "drawings", "--runs", runs, "--metrics", "kid", "clip")
    assert "clip ↑" in text.splitlines()[1]
    assert "time, peak memory. See" in text
    titles = run(
        capsys, "table", "drawings", "--runs", runs, "--metrics", "kid", "clip", "--format", "md"
    ).splitlines()[0]
    names = [title.strip() for title in titles.strip("|").split("|")]
    assert names.index("clip ↑") == names.index("against full") + 1 < names.index("trained params")


def test_chosen_metrics_alone_are_shown(runs, capsys):
    text = run(capsys, "table", "drawings", "--runs", runs, "--metrics", "clip", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert not [name for row in rows for name in row if name.startswith("kid")]
    assert [row["method"] for row in rows] == ["lora", "full", "lora"]  # higher clip first
    text = run(capsys, "table", "drawings", "--runs", runs, "--metrics", "clip", "kid", "--format", "csv")
    names = list(next(csv.DictReader(io.StringIO(text))))
    assert names.index("clip") < names.index("kid")


@pytest.mark.parametrize("seeds", [1, 2])
def test_intervals_of_shares_are_clipped(tmp_path, capsys, seeds):
    for seed in range(seeds):
        share = figure(0.95 + 0.04 * seed, low=0.85, high=1.05, unit="share", better="higher", base=0.1)
        write(tmp_path, record(seed=seed, metrics={"kid": share}))
    text = run(capsys, "table", "drawings", "--runs", tmp_path, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert float(row["kid.high"]) == 1.0
    assert 0 <= float(row["kid.low"]) < 0.95


def test_ordered_by_rank(runs, capsys):
    rows = list(
        csv.DictReader(io.StringIO(run(capsys, "table", "drawings", "--runs", runs, "--format", "csv", "--by", "rank")))
    )
    assert [row["size"] for row in rows] == ["1.0", "8.0", ""]


def test_a_given_reference_changes_no_p_value(runs, capsys):
    text = run(capsys, "table", "drawings", "--runs", runs, "--format", "csv", "--against", "lora:1")
    rows = {(row["method"], row["size"]): row for row in csv.DictReader(io.StringIO(text))}
    assert rows["full", ""]["kid.verdict"] == "better"
    assert float(rows["full", ""]["kid.p_holm"]) == pytest.approx(2 * 0.000277, rel=0.01)  # of two contrasts
    text = run(capsys, "table", "drawings", "--runs", runs, "--against", "lora:1")
    assert "correction for all pairs of groups without full; a pair with full is" in " ".join(text.split())


def test_the_sources_of_variance_of_one_run(tmp_path, capsys):
    """5 evaluations with variance 25; a standard error over items of 4, whose square contains 25 / 5."""
    evaluation = [300.0 + shift for shift in np.sqrt(10) * np.array([-2, -1, 0, 1, 2])]
    measured = figure(300.0, low=300 - 1.96 * 4, high=300 + 1.96 * 4, evaluation=evaluation, standard_error=4.0)
    write(tmp_path, record("lora", 8, 0, metrics={"kid": measured}))
    text = " ".join(run(capsys, "table", "drawings", "--runs", tmp_path).split())
    expected = "training seed unknown, evaluation seed 25 (sd 5.0), items 11 (sd 3.3)"
    assert f"Variance of one evaluation of kid, lora 8: {expected}." in text
    (row,) = csv.DictReader(io.StringIO(run(capsys, "table", "drawings", "--runs", tmp_path, "--format", "csv")))
    assert float(row["kid.variance.evaluation"]) == pytest.approx(25)
    assert row["kid.variance.training"] == ""


def test_the_sources_of_variance_over_seeds(tmp_path, capsys):
    for seed, shift in enumerate((-20.0, 0.0, 20.0)):
        evaluation = [300 + shift - 3, 300 + shift + 3]
        measured = figure(300 + shift, low=290 + shift, high=310 + shift, evaluation=evaluation, standard_error=5.1)
        write(tmp_path, record("lora", 8, seed, metrics={"kid": measured}))
    text = " ".join(run(capsys, "table", "drawings", "--runs", tmp_path).split())
    # between seeds 400; within a seed 3^2 + 3^2 = 18, all of it shared by the seeds; items 5.1^2 - 18 / 2 = 17
    assert "training seed 400 (sd 20, 92 %), evaluation seed 18 (sd 4.2, 4 %), items 17 (sd 4.1, 4 %)" in text
    assert "mean over training and evaluation seeds" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"git": {"commit": "def", "dirty": False}}, "mixes 2 commits"),
        ({"git": {"commit": "abc", "dirty": True}}, "uncommitted changes"),
        ({"metrics": {"kid": figure(1, extractor="net-b")}}, "mixes 2 extractors of kid"),
        ({"metrics": {"kid": figure(1, n=50)}}, "mixes 2 sample counts of kid"),
        ({"metrics": {"kid": figure(1, base=1400.0)}}, "kid of the untuned base differs"),
        ({"device": "cuda"}, "mixes 2 devices"),
        ({"source": "elsewhere"}, "mixes 2 sources"),
        (
            {"fingerprint": "copy", "seed": 1},
            "Left out: 1 older run with the settings and the seed of another run: lora 8",
        ),
    ],
)
def test_mixed_conditions_are_reported(runs, capsys, changes, sentence):
    write(runs, record("lora", 8, 7) | changes)
    assert sentence in " ".join(run(capsys, "table", "drawings", "--runs", runs).split())


def test_differing_settings_make_separate_rows(tmp_path, capsys):
    for rate in (0.1, 0.01):
        content = record(fingerprint=f"at-{rate}")
        content["config"]["train"]["learning_rate"] = rate
        write(tmp_path, content)
    text = run(capsys, "table", "drawings", "--runs", tmp_path)
    assert "learning_rate 0.1" in text
    assert "learning_rate 0.01" in text
    assert "cannot tell" in text  # one seed each


def test_figures_of_different_extractors_share_no_row(tmp_path, capsys):
    for seed, extractor in enumerate(("net-a", "net-a", "net-b")):
        write(tmp_path, record(seed=seed, metrics={"kid": figure(100.0 + seed, extractor=extractor)}))
    rows = [line for line in run(capsys, "table", "drawings", "--runs", tmp_path).splitlines() if "extractors" in line]
    assert [("net-a" in row, "net-b" in row) for row in rows[:2]] == [(True, False), (False, True)]
    assert "100.5" in rows[0]


@pytest.mark.parametrize(
    ("contents", "shown"),
    [
        (("a" * 24, "b" * 24), ("base version aaaaaaaa ", "base version bbbbbbbb ")),
        (("drawings-32", "drawings-64"), ("base version drawings-32", "base version drawings-64")),
    ],
)
def test_contents_under_one_name_share_no_row(tmp_path, capsys, contents, shown):
    for seed, base in enumerate((contents[0], contents[0], contents[1])):
        content = {"adapter": {}, "task": {"base": base}}
        write(tmp_path, record(seed=seed, content=content, metrics={"kid": figure(100.0 + seed)}))
    text = run(capsys, "table", "drawings", "--runs", tmp_path)
    rows = [line for line in text.splitlines() if "base version" in line]
    assert [[part in row for part in shown] for row in rows[:2]] == [[True, False], [False, True]]
    assert "100.5" in rows[0]
    assert "mixes 2 versions of the base or of the data" in text


def test_bases_of_different_names_are_shown_by_their_names_alone(tmp_path, capsys):
    for seed, base in enumerate(("gpt2", "gpt2", "gpt-mini", "gpt-mini")):
        content = {"adapter": {}, "task": {"base": "a" * 24 if base == "gpt2" else "b" * 24}}
        written = record(seed=seed, content=content, metrics={"kid": figure(100.0 + seed)})
        written["config"]["task"]["base"] = base
        write(tmp_path, written)
    text = run(capsys, "table", "drawings", "--runs", tmp_path)
    rows = [line for line in text.splitlines() if "100.5" in line]
    assert "gpt2" in rows[0]
    assert "version" not in text


def test_a_version_of_the_base_is_compared_with_full_on_the_same_version(tmp_path, capsys):
    for base, method, seed in product("ab", ("lora", "full"), range(3)):
        if (base, method) != ("a", "full"):
            content = {"adapter": {}, "task": {"base": base * 24}}
            size, kid = (8, 300.0) if method == "lora" else (None, 200.0)
            name = f"{base}-{method}-{seed}"
            write(tmp_path, record(method, size, seed, kid + seed, content=content, fingerprint=name))
    rows = [line for line in run(capsys, "table", "drawings", "--runs", tmp_path).splitlines() if "lora" in line]
    assert ["worse" in row for row in rows[:2]] == ["bbbbbbbb" in row for row in rows[:2]]
    assert any("bbbbbbbb" in row for row in rows[:2])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "0 unfinished, 0 unreadable); the tasks with runs are drawings"),
        (["drawings", "--by", "rnk"], "expected one of method, rank, kid, clip"),
        (
            ["drawings", "--metrics", "kdi"],
            "no run has the metric 'kdi' (did you mean 'kid'?): expected some of kid, clip",
        ),
        (["drawings", "--against", "lora:3"], "expected METHOD or METHOD:SIZE, of full, lora"),
    ],
)
def test_errors_are_one_sentence(runs, arguments, sentence):
    with pytest.raises(ReportError, match=re.escape(sentence)) as error:
        main(["table", *arguments, "--runs", str(runs)])
    assert len(str(error.value).splitlines()) == 1


def test_only_failed_runs_still_make_a_table(tmp_path, capsys):
    write(tmp_path, record(status="failed", reason="diverged", primary_metric=None, metrics={}))
    text = run(capsys, "table", "drawings", "--runs", tmp_path)
    assert "0 +1 failed" in text
    assert "Failed (1): diverged" in text


def test_control_characters_in_a_name_do_not_reach_the_terminal(tmp_path, capsys):
    write(tmp_path, record(method="lo\u001b[31m[bold]ra|", fingerprint="x"))
    assert "\x1b" not in run(capsys, "table", "drawings", "--runs", tmp_path)
    assert "[bold]ra\\|" in run(capsys, "table", "drawings", "--runs", tmp_path, "--format", "md")
