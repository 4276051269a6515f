"""The cache and its atomic writer."""

import pytest
import torch

from tasks.atomic import WRITING, replacing
from tasks.cache import cached


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path))
    return tmp_path


def compute():
    return {"x": torch.arange(3.0)}, {"n": 3}


def never():
    pytest.fail("computed again")


def test_a_result_is_computed_once_per_key(folder):
    cached("kind", {"key": 1}, compute)
    tensors, value = cached("kind", {"key": 1}, never)
    assert torch.equal(tensors["x"], torch.arange(3.0))
    assert value == {"n": 3}
    assert cached("kind", {"key": 2}, lambda: ({"x": torch.zeros(1)}, None))[1] is None


def test_a_damaged_file_is_computed_again(folder):
    cached("kind", 1, compute)
    (file,) = folder.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    assert cached("kind", 1, compute)[1] == {"n": 3}
    assert cached("kind", 1, never)[1] == {"n": 3}


def test_a_cache_that_cannot_be_written_fails_no_run(folder):
    (folder / "kind").write_text("a file where the folder should be")
    assert cached("kind", 1, compute)[1] == {"n": 3}


def fail_after_half(file):
    file.write_text("half")
    raise RuntimeError("the disk is full")


def test_replacing_keeps_the_old_file_if_writing_fails(tmp_path):
    file = tmp_path / "result.json"
    file.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), replacing(file) as temporary:
        fail_after_half(temporary)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert file.read_text() == "old"


def test_replacing_writes_beside_and_renames(tmp_path):
    file = tmp_path / "result.json"
    with replacing(file) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(WRITING)
        temporary.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
