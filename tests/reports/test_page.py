"""The page as a file: records never become markup, nothing is loaded, the same records give the same bytes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.__main__ import main
from tests.reports.synthetic import figure, record, samples, study, write, write_items

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
    assert [tag for tag, _ in page.tags].count("script") == 2  # the data and the page's script
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
