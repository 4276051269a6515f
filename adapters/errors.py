"""The error for adapter settings and files that cannot work."""


class AdapterError(ValueError):
    """Settings or a file that cannot work on this model. One sentence: what is wrong, what was expected, what to do."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, to quote in a sentence."""
    return str(error).strip().split("\n")[0]
