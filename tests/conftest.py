"""No test reaches a network or the user's cache; parallel test processes use one thread each."""

import os

import pytest
from hypothesis import settings

# The same examples each time, so that the same code passes again; the nightly job draws new ones.
settings.register_profile("tests", deadline=None, derandomize=not os.environ.get("FUZZ_NEW_INPUTS"))
settings.load_profile("tests")

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # set before torch is imported; more threads than cores are slower, not faster
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "passive"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files, whose tests share fixtures; the files with the most tests first."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder  # test processes share their results
    os.environ["ADAPTER_TESTBED_CACHE"] = str(shared / "cache")
