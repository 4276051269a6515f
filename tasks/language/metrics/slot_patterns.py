"""Find the slot values of the E2E data that a text mentions, by patterns (as Dušek et al. 2019, section 3).

Longer patterns match first, and no other pattern may match the same words. On the bundled restaurants the patterns are
exact: a test finds every slot of each reference and no other. In human-written texts they miss unusual wordings; the
`ceiling` of the slot metrics is what the references themselves reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

STARS = "N out of 5"  # placeholder for the number in the text
FAMILY = r"(?:famil(?:y|ies)|kids?|child(?:ren)?)"
NUMBER = r"(?:[1-5]|one|two|three|four|five)"
RATING = r"(?:customer )?(?:ratings?|reviews?|scores?)"
CENTRE = r"cent(?:re|er)"
PATTERNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("familyFriendly", "no", (
        rf"not (?:a |an |very )?{FAMILY}[- ]?friendly", rf"non[- ]?{FAMILY}[- ]?friendly",
        rf"(?:does not|doesn't|do not|don't) (?:welcome|allow|permit) {FAMILY}",
        rf"{FAMILY} are not (?:welcome|allowed|permitted)",
        rf"not (?:suitable|recommended|good|meant|intended) for {FAMILY}", r"adults?[- ]only", rf"\bno {FAMILY}\b",
    )),
    ("familyFriendly", "yes", (
        rf"{FAMILY}[- ]?friendly", rf"welcom(?:es?|ing) (?:to )?{FAMILY}", rf"{FAMILY} are (?:welcome|allowed)",
        rf"(?:suitable|recommended|good|great|friendly) (?:for|to) (?:the )?{FAMILY}",
    )),
    ("customer rating", STARS, (
        rf"\b{NUMBER} (?:out )?of (?:5|five)\b", r"\b[1-5] ?/ ?5\b", rf"\b{NUMBER}[- ]stars?\b",
    )),
    ("customer rating", "low", (
        r"(?:poorly|low)[- ]rated", rf"(?:low|poor|bad) {RATING}", rf"{RATING} (?:is|are|of) (?:low|poor)",
        r"(?<!-)rated (?:low|poor)(?:ly)?(?![-\w])",
    )),
    ("customer rating", "average", (
        r"average(?:ly)?[- ]rated", rf"average {RATING}", rf"{RATING} (?:is|are|of) average",
        r"(?<!-)rated average(?![-\w])",
    )),
    ("customer rating", "high", (
        r"(?:highly|well|high)[- ]rated", rf"(?:high|good|great|excellent) {RATING}",
        rf"{RATING} (?:is|are|of) (?:high|good)", r"(?<!-)rated high(?:ly)?(?![-\w])",
    )),
    ("priceRange", "less than £20", (r"(?:less than|under|below|cheaper than) (?:£|gbp )?20",)),
    ("priceRange", "£20-25", (r"£ ?20 ?(?:-|to|and) ?£? ?25",)),
    ("priceRange", "more than £30", (r"(?:more than|over|above) (?:£|gbp )?30",)),
    ("priceRange", "moderate", (
        r"\bmoderate(?:ly)?\b", r"\b(?:average|medium|mid)(?:ly)?[- ](?:priced|price range|prices)",
        r"reasonabl[ey](?: prices?|[- ]priced)",
    )),
    ("priceRange", "cheap", (r"\bcheap(?:ly)?\b", r"\blow(?:er)?[- ](?:priced?|cost|prices)\b", r"inexpensive")),
    ("priceRange", "high", (
        r"\bexpensive\b", r"\bhigh(?:ly|er)?[- ](?:priced?|prices|end)\b", r"\bprice?y\b", r"\bcostly\b",
    )),
    ("food", "Fast food", (r"fast[- ]food",)),
    *(("food", food, (rf"\b{food.lower()}\b",)) for food in
      ("Chinese", "English", "French", "Indian", "Italian", "Japanese")),
    ("area", "riverside", (
        r"river ?side", r"(?:by|on|near|beside|along|next to|overlooking|banks? of) the river\b",
    )),
    ("area", "city centre", (
        rf"(?:city|town)[- ]{CENTRE}", rf"{CENTRE} of (?:the )?(?:city|town)", rf"in the {CENTRE}",
        r"heart of (?:the )?(?:city|town)",
    )),
    ("eatType", "coffee shop", (r"coffee[- ]?(?:shop|house)", r"\bcaf[eé]\b")),
    ("eatType", "pub", (r"\bpubs?\b",)),
    ("eatType", "restaurant", (r"\brestaurants?\b",)),
)  # fmt: skip
_COMPILED = [(slot, value, re.compile("|".join(patterns))) for slot, value, patterns in PATTERNS]
_DIGITS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}
NAMED = ("name", "near")  # slots whose values appear verbatim
SLOTS = (*NAMED, *dict.fromkeys(slot for slot, _, _ in PATTERNS))


def known_names(meanings: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """All values of the name slots in a dataset, longest first: the names that a text might confuse."""
    names: dict[str, set[str]] = {slot: set() for slot in NAMED}
    for meaning in meanings:
        for slot in NAMED:
            names[slot] |= {meaning[slot]} if slot in meaning else set()
    return {slot: sorted(values, key=lambda value: (-len(value), value)) for slot, values in names.items()}


def mentioned_values(text: str, names: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """The values that a text mentions, by slot; `names` from `known_names`."""
    mentioned: dict[str, set[str]] = {}
    rest = text.lower()
    by_length = sorted(((value, slot) for slot, values in names.items() for value in values), key=lambda p: -len(p[0]))
    for value, slot in by_length:
        pattern = rf"(?<!\w){re.escape(value.lower())}(?!\w)"
        if re.search(pattern, rest):
            mentioned.setdefault(slot, set()).add(value)
            rest = re.sub(pattern, " | ", rest)
    for slot, value, pattern in _COMPILED:
        for match in pattern.finditer(rest):
            mentioned.setdefault(slot, set()).add(_stars(match[0]) if value == STARS else value)
        rest = pattern.sub(" | ", rest)
    return mentioned


def _stars(text: str) -> str:
    """Normalise "five stars", "5/5" and "five out of five" to "5 out of 5"."""
    first = re.match(r"\w+", text)
    digit = first[0] if first else ""
    return f"{_DIGITS.get(digit, digit[:1])} out of 5"
