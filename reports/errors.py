"""The one error that a reader of reports can cause: it is printed as its sentence, with exit status 1."""

from __future__ import annotations


class ReportError(ValueError):
    """One sentence: what was wrong, what was expected, what to do."""
