"""Slot accuracy: which slots of a meaning a text says, says wrongly, leaves out or adds.

Values are found by patterns (as Dušek et al. 2019 do for the E2E data, section 3): a longer pattern first, and what
one pattern has matched no other may match. On the bundled restaurants the patterns are exact: the tests draw
references and find every slot of each and no other. On texts of people they miss what is said in other words; the
references' own accuracy, measured the same way, is the ceiling that the figure carries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STARS = "N out of 5"  # stands for the number that the text says
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
NAMED = ("name", "near")  # slots whose values are said as they are
SLOTS = (*NAMED, *dict.fromkeys(slot for slot, _, _ in PATTERNS))


@dataclass(frozen=True)
class SlotErrors:
    """What one text makes of one meaning; `right + wrong + missing` is the number of slots in the meaning."""

    right: int
    wrong: int
    missing: int
    added: int


def known_names(meanings: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Every value of the named slots in some data, long ones first: what a text may name wrongly."""
    found: dict[str, set[str]] = {slot: set() for slot in NAMED}
    for meaning in meanings:
        for slot in NAMED:
            found[slot] |= {meaning[slot]} if slot in meaning else set()
    return {slot: sorted(values, key=lambda value: (-len(value), value)) for slot, values in found.items()}


def said_values(text: str, names: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """The values that a text says, by slot."""
    said: dict[str, set[str]] = {}
    rest = text.lower()
    inventory = sorted(((value, slot) for slot, values in names.items() for value in values), key=lambda p: -len(p[0]))
    for value, slot in inventory:
        pattern = rf"(?<!\w){re.escape(value.lower())}(?!\w)"
        if re.search(pattern, rest):
            said.setdefault(slot, set()).add(value)
            rest = re.sub(pattern, " | ", rest)
    for slot, value, pattern in _COMPILED:
        for match in pattern.finditer(rest):
            said.setdefault(slot, set()).add(_score(match[0]) if value == STARS else value)
        rest = pattern.sub(" | ", rest)
    return said


def _score(text: str) -> str:
    """ "five stars", "5/5" and "five out of five" as "5 out of 5"."""
    first = re.match(r"\w+", text)
    digit = first[0] if first else ""
    return f"{_DIGITS.get(digit, digit[:1])} out of 5"


def slot_errors(meaning: Mapping[str, str], text: str, names: Mapping[str, list[str]]) -> SlotErrors:
    """Compare what the text says with its meaning; a slot said rightly and wrongly is wrong.

    A meaning whose name is also a neighbour's (or the other way round) is right wherever the text names it.
    """
    said = said_values(text, names)
    everywhere = set().union(*(said.get(slot, set()) for slot in NAMED))
    wanted_names = {meaning[slot] for slot in NAMED if slot in meaning}
    right = wrong = missing = 0
    for slot in (slot for slot in SLOTS if slot in meaning):
        value = meaning[slot]
        values = said.get(slot, set())
        if slot in NAMED:
            values = (values - wanted_names) | ({value} & everywhere)
        right += values == {value}
        wrong += bool(values - {value})
        missing += not values
    added = sum(bool(values - wanted_names) for slot, values in said.items() if slot not in meaning)
    return SlotErrors(right, wrong, missing, added)
