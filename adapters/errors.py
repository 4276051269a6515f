"""The error of adapter settings or files that cannot work."""


class AdapterError(ValueError):
    """Settings or a file that cannot work on this model: one sentence that says what was expected and what to do."""
