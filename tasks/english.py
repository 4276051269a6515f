"""English for captions and descriptions that templates generate."""


def words(text: str) -> list[str]:
    """Split a line into words, for tables of one-word values."""
    return text.split()


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    vowel = phrase[:1].lower() in "aeiou8" and not phrase.lower().startswith(("one", "uni", "eu"))
    return f"{'an' if vowel else 'a'} {phrase}"


def capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
