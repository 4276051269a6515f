"""Sources of bases and datasets, without a network: the cache is used, and every failed source is reported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from tasks.errors import TaskError
from tasks.pretrained import hub
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, STABLE_DIFFUSION, names, published

ROOT = Path(__file__).parents[3]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A hub cache with one repository, as huggingface_hub lays it out."""
    folder = tmp_path / "models--org--second"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_the_first_available_source_is_used(cache):
    snapshot = hub.fetch("--task.base", "ours", ["org/first", "org/second"], ["*.json"], "model")
    assert (snapshot.source, snapshot.revision) == ("org/second", COMMIT)
    assert (snapshot.folder / "config.json").read_text() == "{}"


def test_every_failed_source_is_reported_in_one_sentence(cache):
    with pytest.raises(TaskError) as failed:
        hub.fetch("--task.base", "ours", ["org/first", "org/second@other"], None, "model")
    sentence = str(failed.value)
    assert "org/first (not in the cache), nor in org/second@other (not in the cache)" in sentence
    assert "HF_HUB_OFFLINE" in sentence
    assert "hf download org/first" in sentence
    assert "\n" not in sentence


def test_an_unreachable_hub_is_tried_once(tmp_path):
    program = (
        "from tasks.pretrained import hub\n"
        "try: hub.fetch('--task.data', 'p', ['a/b', 'c/d'], None, 'dataset')\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.startswith("TaskError --task.data 'p' was not found in a/b"), done.stderr
    assert done.stdout.count("does not answer") == 1
    assert "c/d (not in the cache)" in done.stdout
    assert "hf download a/b --repo-type dataset" in done.stdout


@pytest.mark.parametrize("kind", [LANGUAGE_MODEL, STABLE_DIFFUSION])
def test_published_bases_have_hub_repositories(kind):
    for base in names(kind):
        content = published(base, kind)
        assert content is not None
        assert content["hub"]
        assert all(hub.is_repository(source) for source in content["hub"])
        assert all(published(source, kind) == content for source in content["hub"])


@pytest.mark.parametrize("name", ["mini", "./a/b", "../b", "/a/b", "a/b/c", "a b/c"])
def test_names_that_are_not_repositories(name):
    assert not hub.is_repository(name)
