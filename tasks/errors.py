"""The error of task settings or data that cannot work."""


class TaskError(ValueError):
    """Settings or data that cannot work: one sentence that says what was expected and what to do."""
