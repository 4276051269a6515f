"""Exported files are written atomically, and a full disk is one sentence."""

import errno

import pytest

from adapters.interchange.exported_file import JsonFile
from experiments.records.adapter_file import write_exports
from experiments.records.failures import DiskFull


class FileOnAFullDisk(JsonFile):
    def save(self, path) -> None:
        path.write_text(self.text[:1])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_files_are_written_to_a_new_folder(tmp_path):
    paths = write_exports([JsonFile("a.json", "{}"), JsonFile("b.json", "[]")], tmp_path / "new")
    assert [path.read_text() for path in paths] == ["{}", "[]"]
    assert sorted((tmp_path / "new").iterdir()) == paths


def test_a_full_disk_leaves_the_old_file(tmp_path):
    write_exports([JsonFile("a.json", "{}")], tmp_path)
    with pytest.raises(DiskFull, match=r"left for 'a.json' of 6 bytes"):
        write_exports([FileOnAFullDisk("a.json", "[1, 2]")], tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "{}")]
