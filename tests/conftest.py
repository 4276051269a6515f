"""No test reaches a network, and none touches the user's cache."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    os.environ["ADAPTER_TESTBED_CACHE"] = str(tmp_path_factory.mktemp("cache"))
