"""The error for a wrong command line or configuration, and the hint at what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from adapters.bounds import violations


class UsageError(ValueError):
    """A request that cannot work; the message is one sentence: what was wrong, what was expected, what to do."""


def check_numbers(options: Any, prefix: str = "") -> None:
    """Raise UsageError for options (a dataclass) whose numbers are outside the bounds that they declare.

    `prefix` is that of their names on the command line: "train".
    """
    if wrong := violations(options, prefix):
        raise UsageError(wrong)


def check_names(names: Iterable[str], valid: Iterable[str], what: str) -> None:
    """Raise UsageError for the first name that is not valid: "WHAT has no setting 'x' (did you mean 'y'?)"."""
    valid = list(valid)
    unknown = sorted(set(names) - set(valid))
    if unknown:
        raise UsageError(f"{what} has no setting '{unknown[0]}'{did_you_mean(unknown[0], valid)}")


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The hint " (did you mean 'x'?)" if a valid name is close to `name`, whatever their case; else an empty string."""
    by_lower_case = {each.lower(): each for each in valid}
    close = difflib.get_close_matches(name.lower(), list(by_lower_case), n=1)
    return f" (did you mean '{by_lower_case[close[0]]}'?)" if close else ""
