"""What a process sets before torch is imported: how OpenMP waits, and how glibc keeps memory."""

import os
import platform
import subprocess
import sys

import pytest

from experiments.process import openmp
from experiments.process.malloc import SETTINGS, keep_freed_memory
from experiments.process.openmp import POLICY, busy_processes, choose_wait_policy
from experiments.process.start import BAR_SECONDS, prepare_process


@pytest.fixture
def machine(monkeypatch):
    """A machine of four cores with this many busy processes, in whose environment nobody has chosen anything."""
    for name in [*openmp.SETTINGS, *SETTINGS, "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "GLIBC_TUNABLES"]:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(openmp, "usable_cores", lambda: 4)
    return lambda busy: monkeypatch.setattr(openmp, "busy_processes", lambda: busy)


@pytest.mark.parametrize(
    ("busy", "beside", "threads", "policy"),
    [
        (0, 0, None, None),
        (1, 0, None, "passive"),
        (0, 1, "2", "passive"),
        (2, 0, "2", None),
        (3, 0, "2", "passive"),
        (4, 0, "1", "passive"),
    ],
)
def test_threads_sleep_where_cores_are_short(machine, monkeypatch, busy, beside, threads, policy):
    machine(busy)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    choose_wait_policy(beside)
    assert os.environ.get(POLICY) == policy


@pytest.mark.parametrize("setting", openmp.SETTINGS)
def test_the_users_own_setting_stays(machine, monkeypatch, setting):
    machine(7)
    monkeypatch.setenv(setting, "1" if setting != POLICY else "active")
    choose_wait_policy()
    assert os.environ.get(POLICY) == ("active" if setting == POLICY else None)


def test_processes_of_torchrun_count_as_busy(machine, monkeypatch):
    machine(0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    prepare_process()
    assert os.environ[POLICY] == "passive"


def test_running_processes_are_counted_without_this_one(tmp_path):
    (tmp_path / "loadavg").write_text("0.20 0.18 0.12 4/357 20442\n")
    assert busy_processes(tmp_path / "loadavg") == 3
    assert busy_processes(tmp_path / "nothing") == pytest.approx(os.getloadavg()[0], abs=1)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's allocator")
@pytest.mark.parametrize("setting", [None, *SETTINGS])
def test_glibc_gives_no_freed_memory_back_unless_the_user_decides(monkeypatch, setting):
    """The resident memory after 64 MiB have been written and freed, in a process of its own."""
    program = f"""
import ctypes
from pathlib import Path
from experiments.process.malloc import keep_freed_memory, return_freed_memory
print(keep_freed_memory())
resident = lambda: int(Path('/proc/self/statm').read_text().split()[1]) * {os.sysconf("SC_PAGE_SIZE")}
before, c = resident(), ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
block = c.malloc(2**26)
ctypes.memset(block, 1, 2**26)
c.free(block)
print(resident() - before)
return_freed_memory()
print(resident() - before)
"""
    environment = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, "GLIBC_TUNABLES")}
    if setting is not None:
        environment[setting] = "" if setting == "LD_PRELOAD" else "131072"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    kept, resident, returned = run.stdout.split()
    assert kept == str(setting is None)
    assert (int(resident) > 2**25) == (setting is None)
    assert int(returned) < 2**22


@pytest.mark.parametrize(("own", "seconds"), [(None, 10.0), ("3", 3.0)])
def test_a_log_has_few_lines_of_progress(own, seconds):
    program = """
from experiments.process.start import prepare_process
prepare_process()
from tqdm import tqdm
print(tqdm([]).mininterval)
"""
    environment = {name: value for name, value in os.environ.items() if name != BAR_SECONDS}
    environment |= {BAR_SECONDS: own} if own else {}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert float(run.stdout) == seconds


def test_every_command_prepares_its_process_before_it_imports_torch():
    program = """
import sys
from experiments.cli.errors import command
from experiments.process import start
start.prepare_process = lambda: print("torch" in sys.modules)
command(lambda: print("runs"))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "runs"]


def test_nothing_is_set_on_another_c_library(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
