"""The lock of a run folder: waiting for a process that is about to end."""

import subprocess
import sys

from experiments.records.run_lock import only_writer, wait_until_free

HOLDER = """
import sys, pathlib
from experiments.records.run_lock import only_writer
with only_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_folder_is_waited_for_until_its_holder_ends_and_no_longer_than_asked(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        wait_until_free(tmp_path, 0.2)
        assert (tmp_path / "lease").exists(), "still held: the wait timed out"
        holder.stdin.write("\n")
        holder.stdin.flush()
        wait_until_free(tmp_path, 60)
        with only_writer(tmp_path):
            pass


def test_an_absent_folder_is_free(tmp_path):
    wait_until_free(tmp_path / "absent", 60)
    assert not (tmp_path / "absent").exists()
