"""The page as a file: records never become markup, nothing is loaded, the same records give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from safetensors.numpy import save_file

from reports.__main__ import main
from reports.errors import ReportError
from reports.page.chart_data import chart_data
from reports.page.gallery import text_rows
from reports.page.training_data import MAX_POINTS
from reports.records import collect
from reports.tables import build
from tests.reports.synthetic import curve, figure, record, samples, steps, study, write, write_items

HOSTILE = "<script>alert('here')</script></script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of the page outside of script and style."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def html(tmp_path: Path) -> str:
    study(tmp_path / "runs")
    run = write(tmp_path / "runs", record("lora", 8, 0, 302, versions={"torch": HOSTILE}))
    write_items(run, [30.0, 31.0], [HOSTILE, "a green creature"])
    samples(run, 2)
    write(tmp_path / "runs", record("lora", 8, 9, status="failed", reason=HOSTILE, metrics={}, primary_metric=None))
    hostile = record(fingerprint="h") | {"method": HOSTILE}
    folder = tmp_path / "runs" / "drawings" / "hostile" / "h"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(hostile))
    main(["page", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")])
    return (tmp_path / "out" / "index.html").read_text()


def test_text_from_records_is_escaped(html):
    page = Elements(html)
    assert [tag for tag, _ in page.tags].count("script") == 3  # the data, Plotly and the page's script
    assert sum(HOSTILE in words for words in page.words) >= 3  # caption, reason, method
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert {(a.get("src") or "")[:22] for tag, a in page.tags if tag == "img" and "src" in a} == {
        "data:image/png;base64,"
    }


def test_escaped_data_can_be_read_back(html):
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    methods = json.loads(data[1])["task-drawings"]["methods"]
    assert HOSTILE in methods


def test_nothing_is_loaded(html):
    page = Elements(html)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    addresses = [a.get(name) for _, a in page.tags for name in ("src", "href") if a.get(name)]
    assert all(address and address.startswith("data:") for address in addresses)


def test_the_policy_allows_exactly_the_style_and_scripts_of_the_page(html):
    policy = str(next(a["content"] for _, a in Elements(html).tags if a.get("http-equiv")))
    found = {kind: re.findall(rf"<{kind}[^>]*>(.*?)</{kind}>", html, re.DOTALL) for kind in ("style", "script")}
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found["style"]]
    hashes += [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found["script"][1:]]
    assert allowed == hashes


def test_only_the_chosen_tasks_are_embedded(tmp_path):
    for task in ("first", "second"):
        write(tmp_path / "runs", record(task=task))
    main(["page", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path), "--tasks", "second"])
    page = (tmp_path / "index.html").read_text()
    assert "task-second" in page
    assert "task-first" not in page
    with pytest.raises(ReportError, match=r"no run of 'third'.*expected some of first, second"):
        main(["page", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path), "--tasks", "third"])


def test_a_page_of_no_readable_run_is_refused_with_a_reason(tmp_path):
    folder = write(tmp_path / "elsewhere", record())
    linked = tmp_path / "runs" / folder.relative_to(tmp_path / "elsewhere")
    linked.parent.mkdir(parents=True)
    linked.symlink_to(folder)
    with pytest.raises(ReportError, match=r"nothing to show from .*1 unreadable\. Unreadable: .* outside its folder"):
        main(["page", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path)])


def test_the_downloads_are_the_tables_of_the_command(html, tmp_path, capsys):
    files = {a["download"]: a["href"] for tag, a in Elements(html).tags if tag == "a"}
    for name, form in (("drawings.csv", "csv"), ("drawings.tex", "latex")):
        main(["table", "drawings", "--runs", str(tmp_path / "runs"), "--format", form])
        assert unquote(str(files[name])).partition(",")[2] == capsys.readouterr().out


def test_texts_stand_beside_their_reference(tmp_path):
    import pandas as pd

    for method, text in (("lora", "A pub."), ("full", "A quiet pub.")):
        run = write(tmp_path / "runs", record(method, 8, 0))
        row = {"item": [0], "meaning": ["eatType[pub]"], "text": [text], "reference": ["It is a pub."]}
        pd.DataFrame(row).to_parquet(run / "items.parquet")
    rows = text_rows(build(collect(tmp_path / "runs"), "drawings").rows)
    assert [(row["caption"], [entry["text"] for entry in row["entries"]]) for row in rows] == [
        ("eatType[pub]", ["It is a pub.", "A quiet pub.", "A pub."])
    ]


def test_charts_hold_every_loss_curve_and_spectrum(tmp_path):
    for rank in (2, 4):
        run = write(tmp_path, record("lora", rank, 0))
        steps(run, 1000, scale=rank)
        factors = {"x.lora_A": np.eye(rank, 6), "x.lora_B": np.diag(np.arange(rank, 0, -1.0))}
        save_file({name: value.astype(np.float32) for name, value in factors.items()}, run / "adapter.safetensors")
    data = chart_data(build(collect(tmp_path), "drawings"), collect(tmp_path).of_task("drawings"))
    for run in data["losses"]:
        at, values = run["curves"]["validation_loss"]
        scale = data["groups"][run["group"]]["size"]
        assert at == [10.0 * n for n in range(1, 101)]
        assert values == pytest.approx([2 * scale / step for step in at], rel=1e-4)
        assert len(run["curves"]["loss"][0]) == MAX_POINTS
    assert {data["groups"][s["group"]]["size"]: s["median"] for s in data["spectra"]} == {
        2: pytest.approx([1, 0.5]),
        4: pytest.approx([1, 0.75, 0.5, 0.25]),
    }
    assert [s["energy_rank"] for s in data["spectra"]] == [
        [["other", "x", 2]],
        [["other", "x", 3]],
    ]  # (16 + 9 + 4) / 30 and (4 + 1) / 5


def test_charts_hold_the_quality_curves(tmp_path):
    for seed in (0, 1):
        curve(write(tmp_path, record("lora", 8, seed)), {0: 1486.0, 10: 320.0 - seed, 20: 330.0 + seed})
    data = chart_data(build(collect(tmp_path), "drawings"), collect(tmp_path).of_task("drawings"))
    assert list(data["quality"]) == ["kid"]
    (found,) = data["quality"]["kid"]
    assert (found["group"], found["steps"], found["values"]) == (0, [0, 10, 20], [1486.0, 319.5, 330.5])
    assert (found["best"], found["n"], found["texts"][2]) == (1, "n=50", "330.5 [324.1, 336.9]")
    assert [seed["values"] for seed in found["seeds"]] == [[1486.0, 320.0, 330.0], [1486.0, 319.0, 331.0]]


def test_figures_come_with_how_they_were_measured(html):
    text = " ".join(Elements(html).words)
    for part in ("n=500", "measured with net-a", "untuned base 1486", "2 failed, 1 unfinished"):
        assert part in text


def test_the_page_is_reproducible(html, tmp_path):
    main(["page", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "again")])
    assert (tmp_path / "again" / "index.html").read_text() == html


def test_the_three_variances_are_shown(tmp_path):
    for seed, shift in enumerate((-20.0, 0.0, 20.0)):
        evaluation = [300 + shift - 3, 300 + shift + 3]
        measured = figure(300 + shift, evaluation=evaluation, standard_error=5.1)
        write(tmp_path / "runs", record("lora", 8, seed, metrics={"kid": measured}))
    main(["page", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path)])
    text = " ".join(Elements((tmp_path / "index.html").read_text()).words)
    assert "training seed 400 (sd 20, 92 %), evaluation seed 18 (sd 4.2, 4 %), items 17 (sd 4.1, 4 %)" in text
