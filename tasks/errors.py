"""The error for task settings or data that cannot be used."""


class TaskError(ValueError):
    """One sentence: what was wrong with the settings or data, what was expected, and what to do."""
