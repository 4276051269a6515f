"""Reference values: averaged over the runs of one evaluation only; those of several evaluations are all shown."""

from __future__ import annotations

import csv
import io
import re

import pytest

from reports.__main__ import main
from reports.dataframes import frame
from reports.page.html import write_page
from reports.plots.draw import draw
from reports.records import collect
from reports.references import Reference, references
from reports.run_groups import group_runs
from tests.reports.synthetic import figure, record, write


def of(runs, metric="kid") -> list[Reference]:
    part = collect(runs).of_task("drawings")
    return references(group_runs(part.finished, part.failed), metric)


def run(runs, data: str, seed: int, base: float, kid=300.0, content=None, **settings) -> None:
    content = record(seed=seed, kid=kid, fingerprint=f"{data}-{seed}-{settings}", content={"task": content or {}})
    content["config"]["task"] |= {"data": data} | settings
    content["metrics"] = {"kid": figure(kid, base=base)}
    write(runs, content)


@pytest.fixture
def two_data(tmp_path):
    """Two data sets with their own base; the first trained on 10 and on 99 items."""
    for seed in (0, 1):
        run(tmp_path, "birds", seed, 1000.0, train_items=10)
        run(tmp_path, "birds", seed, 1000.0 + 1e-5, train_items=99)  # another machine
        run(tmp_path, "cats", seed, 310.0, train_items=10)
    return tmp_path


def test_each_evaluation_has_its_own_value(two_data):
    cats, birds = of(two_data)
    assert cats == Reference("base", 310.0, "data cats, train_items 10")
    assert (birds.settings, birds.value) == ("data birds", pytest.approx(1000.0, abs=1e-4))


def test_runs_of_one_evaluation_are_averaged(tmp_path):
    for seed, base in enumerate((1000.0, 1001.0)):  # two machines
        run(tmp_path, "birds", seed, base)
    assert of(tmp_path) == [Reference("base", 1000.5)]


def test_changed_data_under_one_name_is_another_evaluation(tmp_path):
    for seed, base in enumerate((1000.0, 2000.0)):
        run(tmp_path, "birds", seed, base, content={"data": f"digest-{seed}"})
    expected = [(1000, "data version digest-0"), (2000, "data version digest-1")]
    assert [(each.value, each.settings) for each in of(tmp_path)] == expected


def test_all_views_show_each_value_and_no_mean(two_data, tmp_path, capsys):
    main(["table", "drawings", "--runs", str(two_data), "--format", "md"])
    table = capsys.readouterr().out
    list(draw(collect(two_data), tmp_path / "plots"))
    page = write_page(collect(two_data), tmp_path / "page").read_text()
    page = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # plotly.js lists country codes
    svg = (tmp_path / "plots" / "drawings" / "size-kid.svg").read_text()
    plot = " ".join(" ".join(re.findall(r"<!--(.*?)-->", svg, re.DOTALL)).split())  # its texts
    assert "310.0 or 1000" in table
    for text in (table, page, plot):
        assert "untuned base (data cats, train_items 10) 310.0" in text
        assert "untuned base (data birds) 1000" in text
        assert not re.search(r"\b65[45]\b", text)  # the mean of both
    main(["table", "drawings", "--runs", str(two_data), "--format", "csv"])
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert sorted(float(row["kid.base"]) for row in rows) == pytest.approx([310, 1000, 1000])


def test_a_failed_run_shows_its_base(tmp_path, capsys):
    base = {"kid": figure(1486.0, base=None), "clip": figure(0.2, better="higher", base=None)}
    failed = {"status": "failed", "reason": "diverged", "metrics": {}, "base_figures": base}
    write(tmp_path, record(**failed))
    main(["table", "drawings", "--runs", str(tmp_path)])
    text = capsys.readouterr().out
    assert "untuned base" in text
    assert "1486" in text
    assert "0 +1 failed" in text
    assert frame(tmp_path)["kid.base"].tolist() == [1486]
    write(tmp_path, record(seed=1))  # a run of the same evaluation: one value
    assert of(tmp_path)[0] == Reference("base", 1486)


def test_failed_runs_of_earlier_releases_have_no_base(tmp_path, capsys):
    write(tmp_path, record(status="failed", reason="diverged", metrics={}))
    main(["table", "drawings", "--runs", str(tmp_path)])
    assert "untuned base" not in capsys.readouterr().out
