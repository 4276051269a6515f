"""The error of a wrong command or configuration, and the hint that names what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """The request cannot work: one sentence that says what was wrong, what was expected and what to do."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" where a valid name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name.lower(), list(valid), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
