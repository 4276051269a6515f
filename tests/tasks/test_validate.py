"""The comparison of the bundled models that measure pictures."""

import json

import pytest

from tasks.bundled import pictures, validate
from tasks.bundled.bundled_bases import CLASSIFIER, FOLDERS, SCORER, STABLE_DIFFUSION


@pytest.fixture
def target(tmp_path):
    for folder in (FOLDERS[STABLE_DIFFUSION], CLASSIFIER, SCORER):
        (tmp_path / folder.name).symlink_to(folder)
    return tmp_path


def test_the_judges_agree_on_drawings_and_the_figures_are_written(target, monkeypatch, capsys):
    monkeypatch.setattr(validate, "NEIGHBOURS", 40)
    monkeypatch.setattr("sys.argv", ["validate", "--target", str(target), "--items", "8"])
    validate.main()
    figures = json.loads((target / "figures.json").read_text())["validation"]
    assert figures == json.loads(capsys.readouterr().out)
    assert figures["n"] == 8
    for kind in ("drawn", "through the VAE"):
        assert figures[kind]["found"]["classifier"]["kind"] == 1.0
        assert figures[kind]["found"]["scorer"]["colour"] == 1.0
        assert figures[kind]["agreement"]["scorer"]["colour"] == 1.0


def test_the_nearest_drawing_is_itself(target, monkeypatch):
    monkeypatch.setattr(validate, "NEIGHBOURS", 6)
    judges = validate.Judges(target)
    drawings = pictures.objects(6, pictures.PROBE_SEED + 1)
    assert judges.attributes(drawings.pixels)["extractor"] == drawings.attributes


def test_a_folder_without_the_parts_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["validate", "--target", str(tmp_path)])
    with pytest.raises(SystemExit):
        validate.main()
    assert "has no mini and no classifier and no scorer" in capsys.readouterr().err
