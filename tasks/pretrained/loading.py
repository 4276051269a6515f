"""Load pretrained models safely: safetensors only, no code from the folder, and fail if any weight is missing."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.errors import TaskError


def load_model(kind: Any, source: Path | str, base: str, **options: Any) -> Any:
    """`kind.from_pretrained(source)` of transformers or diffusers; from safetensors unless `options` say otherwise.

    The libraries initialise missing weights at random and only warn. Here that raises TaskError, as do files that
    cannot be read and weights of the wrong shape.
    """
    from safetensors import SafetensorError

    quiet(kind)
    options = {"use_safetensors": True} | options
    try:
        model, report = kind.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )  # mismatches are then in the report, by name
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise TaskError(_cannot_load(base, error)) from error
    wrong = sorted(report["missing_keys"]) or sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if wrong:
        raise TaskError(
            f"--task.base '{base}': {len(wrong)} weights are missing or have another shape than its configuration "
            f"says, for example '{wrong[0]}'; expected every weight of a {kind.__name__}: download or save it again"
        )
    return model


def load_data_only(kind: Any, source: Path | str, base: str, **options: Any) -> Any:
    """Load a tokenizer, scheduler or configuration, which hold no weights. Raises TaskError if it cannot be read."""
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        raise TaskError(_cannot_load(base, error)) from error


def check_vocabulary(tokenizer: Any, embeddings: int, base: str) -> None:
    """Raise TaskError if the tokenizer has a token that the model has no embedding for."""
    token, index = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if index >= embeddings:
        raise TaskError(
            f"--task.base '{base}': its tokenizer has the token '{token}' with number {index}, but its model has "
            f"{embeddings} embeddings: remove the token, or call model.resize_token_embeddings(len(tokenizer)) and save"
        )


def quiet(kind: Any) -> None:
    """Silence the library of `kind`: no progress bars, and no warning that the unneeded torchvision is missing."""
    library = import_module(kind.__module__.partition(".")[0])
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()


def _cannot_load(base: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
    return (
        f"--task.base '{base}' cannot be loaded ({reason}); expected a folder written by save_pretrained with "
        "safetensors (--task.allow-pickle also accepts pickled weights that you trust) and without code"
    )


def read_card(file: Path) -> dict[str, Any]:
    """Read a base's card, its recommended settings. Raises TaskError if it is not a JSON object."""
    advice = "correct it, or remove it to use the settings of published bases"
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TaskError(f"'{file}' cannot be read ({error}): {advice}") from None
    if not isinstance(card, dict):
        raise TaskError(f"'{file}' is not a base's card: expected a JSON object; {advice}")
    return card
