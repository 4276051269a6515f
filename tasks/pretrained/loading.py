"""Pretrained models from files that others wrote: data alone, and every weight of the model among it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.errors import TaskError


def load_whole(kind: Any, source: Path | str, base: str, **options: Any) -> Any:
    """`kind.from_pretrained(source)` of transformers or diffusers, from safetensors unless `options` say otherwise.

    The libraries fill weights that a file lacks with random numbers and go on. Raises TaskError there, and where the
    files cannot be read or hold a weight of another shape.
    """
    from safetensors import SafetensorError

    quiet(kind)
    options = {"use_safetensors": True} | options
    try:
        model, report = kind.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )  # a mismatch is in the report, with its name
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise TaskError(_unreadable(base, error)) from error
    wrong = sorted(report["missing_keys"]) or sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if wrong:
        raise TaskError(
            f"--task.base '{base}': {len(wrong)} weights are missing or have another shape than the configuration "
            f"says, for example '{wrong[0]}'; expected all weights of a {kind.__name__}: fetch or save them again"
        )
    return model


def load_data_only(kind: Any, source: Path | str, base: str, **options: Any) -> Any:
    """A tokenizer or a configuration, no code of the folder's being run. Raises TaskError where it cannot be read."""
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        raise TaskError(_unreadable(base, error)) from error


def quiet(kind: Any) -> None:
    """No progress bar of the library that `kind` is from, and no news of a missing torchvision, which nothing needs."""
    library = import_module(kind.__module__.partition(".")[0])
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()


def _unreadable(base: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
    return (
        f"--task.base '{base}' could not be loaded ({reason}); expected a folder as save_pretrained writes it, with "
        "safetensors (--task.allow_pickle takes allow_pickle weights that you trust) and none of its own code"
    )


def read_card(file: Path) -> dict[str, Any]:
    """A base's card. Raises TaskError where it is no JSON object."""
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TaskError(f"'{file}' cannot be read ({error}): mend it, or remove it for the published recipe") from None
    if not isinstance(card, dict):
        raise TaskError(f"'{file}' is no card: expected a JSON object; mend it, or remove it for the published recipe")
    return card
