"""The errors for adapter settings and files that cannot work."""


class AdapterError(ValueError):
    """Settings or a file that cannot work on this model. One sentence: what is wrong, what was expected, what to do."""


class ForeignMethodError(AdapterError):
    """Another library's method failed on this model, which may be because the model has no weights (meta device)."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, to quote in a sentence."""
    return str(error).strip().split("\n")[0]
