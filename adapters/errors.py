"""The error for adapter settings and files that cannot work."""


class AdapterError(ValueError):
    """Settings or a file that cannot work on this model. One sentence: what is wrong, what was expected, what to do."""
