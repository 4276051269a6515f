"""The README's figures are those of the shipped records, byte for byte."""

import json
import re
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.errors import ReportError
from reports.shipping.readme_figures import draw_figures, read_figures
from tests.reports.synthetic import study

REPORTS = Path(__file__).parents[3] / "reports"
RECORDS, FIGURES = REPORTS / "records", REPORTS / "figures"


@pytest.mark.parametrize("name", read_figures(RECORDS))
def test_a_shipped_figure_is_rebuilt_byte_for_byte(name, tmp_path):
    one = tmp_path / "figures.json"
    one.write_text(json.dumps({name: json.loads((RECORDS / "figures.json").read_text())[name]}))
    for archive in RECORDS.glob("*.tar.xz"):
        (tmp_path / archive.name).symlink_to(archive)
    (file,) = draw_figures(tmp_path, tmp_path / "drawn")
    assert file.read_bytes() == (FIGURES / file.name).read_bytes(), f"run `python -m reports figures` ({name})"


# drawn from runs whose records were never shipped; `before_after` shows pictures, which are not shipped
OF_AN_EARLIER_RELEASE = {"before_after", "rank-sd-pokemon", "d90-e2e", "d90-sd-pokemon"}


def test_the_readmes_figures_are_the_shipped_ones_and_a_few_of_an_earlier_release():
    shown = set(re.findall(r"reports/figures/([\w-]+)\.png", (REPORTS.parent / "README.md").read_text()))
    assert shown == {*read_figures(RECORDS), *OF_AN_EARLIER_RELEASE}


def test_the_page_of_the_shipped_records(tmp_path):
    main(["page", "--runs", str(RECORDS), "--output", str(tmp_path)])
    assert (tmp_path / "index.html").stat().st_size > 10_000


def write_figures(folder, **wanted):
    study(folder)
    (folder / "figures.json").write_text(json.dumps(wanted))
    return list(draw_figures(folder, folder / "drawn"))


def test_a_figure_of_a_kind_and_a_metric(tmp_path):
    """The same bytes from the runs and from their archives."""
    wanted = {"clip": {"task": "drawings", "kind": "rank", "metric": "clip"}}
    (first,) = write_figures(tmp_path / "runs", **wanted)
    main(["ship", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "records")])
    (tmp_path / "runs" / "drawings" / "lora" / "unfinished" / "config.json").unlink()  # it is not shipped
    (tmp_path / "records" / "figures.json").write_text(json.dumps(wanted))
    (again,) = draw_figures(tmp_path / "runs", tmp_path / "again")
    (shipped,) = draw_figures(tmp_path / "records", tmp_path / "shipped")
    assert first.read_bytes().startswith(b"\x89PNG")
    assert again.read_bytes() == shipped.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"task": "drawings", "kind": "rang"}, "does not name plots: .*unknown kind 'rang'"),
        ({"task": "drawings", "kind": "rank", "colour": 1}, "does not name plots: .*colour"),
        ({"task": "drawings", "kind": "rank", "metric": "x"}, "no run has the metric 'x'"),
        ({"task": "drawings", "kind": "intrinsic"}, "'one' of figures.json fits 0 plots of 'drawings'"),
        ({"task": "x", "kind": "rank"}, "no finished or failed run of 'x'"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, wanted, says):
    with pytest.raises(ReportError, match=says):
        write_figures(tmp_path, one=wanted)


def test_a_folder_without_figures_is_one_sentence(tmp_path):
    with pytest.raises(ReportError, match=r"figures\.json' is missing"):
        list(draw_figures(tmp_path, tmp_path / "drawn"))
