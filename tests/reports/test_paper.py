"""`reports paper` shows published numbers next to ours; an invalid record is an error of one sentence."""

import json

import pytest

from reports.__main__ import main
from reports.errors import ReportError

ROW = {"where": "Table 3", "what": "LoRA", "by_formula": 393216, "ours": 393216, "verdict": "exact", "printed": "0.35M"}
CLAIM = {"source": "guide", "claim": "about 3 MB", "ours": "3 bytes", "how": "counted", "verdict": "holds"}


@pytest.mark.parametrize("style", ["terminal", "md"])
def test_counts_and_claims_are_shown(tmp_path, capsys, style):
    (tmp_path / "paper.json").write_text(json.dumps({"counts": [ROW], "claims": [CLAIM], "git": {}}))
    main(["paper", "--runs", str(tmp_path), "--format", style])
    text = capsys.readouterr().out
    assert "393,216" in text
    assert "about 3 MB" in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "experiments.paper"),
        ("{}", "not a record of experiments.paper"),
        ("x", "not a record of experiments.paper"),
    ],
)
def test_an_invalid_record_is_reported_in_one_sentence(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "paper.json").write_text(content)
    with pytest.raises(ReportError, match=sentence):
        main(["paper", "--runs", str(tmp_path)])
