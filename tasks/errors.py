"""The error for task settings or data that cannot be used, and how it quotes other errors."""


class TaskError(ValueError):
    """One sentence: what was wrong with the settings or data, what was expected, and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, to quote in a sentence; its type if it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
