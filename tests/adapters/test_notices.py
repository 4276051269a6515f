"""The notice that bitsandbytes logs at import is hidden, its other messages are not."""

import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

import adapters  # noqa: F401  (hides the notice)
from adapters.peft_library.notices import LOGGER, NOTICE


def test_only_the_notice_about_the_kernel_is_hidden(caplog):
    logger = logging.getLogger(LOGGER)
    logger.warning(f"{NOTICE} from kernels-community: %s. Please make sure", "no network")
    assert not caplog.records
    logger.warning("Failed to load CPU libraries")
    logger.error("another failure")
    assert [record.getMessage() for record in caplog.records] == ["Failed to load CPU libraries", "another failure"]


def test_bitsandbytes_logs_it_under_this_name():
    package = find_spec("bitsandbytes")
    if package is None or package.origin is None:
        pytest.skip("needs bitsandbytes")
    source = Path(package.origin).parent.joinpath(*LOGGER.split(".")[1:]).with_suffix(".py").read_text()
    assert NOTICE in source
    assert "logging.getLogger(__name__)" in source
