"""The error that a user of the reports can cause; the command line prints it and exits with status 1."""

from __future__ import annotations


class ReportError(ValueError):
    """One sentence: what was wrong, what was expected, what to do."""
