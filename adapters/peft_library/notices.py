"""Notices of other libraries that say nothing about the user's run."""

import logging

LOGGER, NOTICE = "bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward"


def hide_notices() -> None:
    """Hide that bitsandbytes, which peft and transformers import if it is installed, lacks a fast kernel for 4 bits.

    It logs so at import on CPUs with bf16 instructions; quantised bases are on a GPU. Other messages are shown.
    """
    logging.getLogger(LOGGER).addFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOTICE)
