"""From attributes to everyday English: how a thing is described, whatever the thing is.

A `Kind` of thing (hotels, films, restaurants, ...) has slots; each value of a slot can be said as an adjective before
the noun, as a phrase after it, or as a predicate. `describe` draws which. The same attributes as a line,
"name[The Mill], area[riverside]", are the meaning representation (MR) of the E2E data (Novikova et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

Meaning = Mapping[str, str]  # slot to value, in order; "name" among them
Opening = Callable[["Parts", Random], str]


@dataclass(frozen=True)
class Phrases:
    """How a value is said; "{}" stands for it, "|" parts alternatives, and an empty string is a form it lacks."""

    adjective: str = ""  # "a {} hotel"
    after: str = ""  # "a hotel {}"
    predicate: str = ""  # "it {}"

    def forms(self, form: str) -> list[str]:
        text = getattr(self, form)
        return text.split("|") if text else []


@dataclass(frozen=True)
class Slot:
    """Values that are said by one set of phrases, or (a mapping) each by its own."""

    values: Sequence[str] | Mapping[str, Phrases]
    phrases: Phrases = Phrases()

    def said(self, value: str, form: str) -> list[str]:
        own = self.values.get(value, self.phrases) if isinstance(self.values, Mapping) else self.phrases
        return [phrase.replace("{}", value) for phrase in own.forms(form)]


@dataclass(frozen=True)
class Kind:
    """What a thing is: how it is named, its nouns ("type" is the slot whose value is the noun), and its slots."""

    nouns: Sequence[str]
    slots: Mapping[str, Slot]
    name: Callable[[Random], str]
    pronouns: Sequence[str] = ("it",)
    noun_slot: str | None = None
    openings: Sequence[Opening] = ()

    def draw(self, random: Random, least: int = 2, most: int = 6) -> dict[str, str]:
        """A meaning: the name, then `least` to `most` other slots in random order."""
        count = min(random.randint(least, most), len(self.slots))
        chosen = random.sample(list(self.slots), count)
        meaning = {slot: random.choice(list(self.slots[slot].values)) for slot in chosen}
        place = 0 if random.random() < 0.8 else random.randint(0, count)
        pairs = list(meaning.items())
        return dict([*pairs[:place], ("name", self.name(random)), *pairs[place:]])


@dataclass(frozen=True)
class Parts:
    """What the first sentence may use: the noun with its adjectives, what comes after it, what is left to say."""

    name: str
    adjectives: list[str]
    noun: str
    after: list[str]
    predicates: list[str]

    @property
    def bare(self) -> str:
        """The noun with its adjectives and without an article."""
        return " ".join([*self.adjectives, self.noun])

    @property
    def phrase(self) -> str:
        return with_article(self.bare)

    @property
    def full(self) -> str:
        return " ".join([self.phrase, *self.after])


def words(text: str) -> list[str]:
    """The words of a line, for tables of one-word values."""
    return text.split()


def format_meaning(meaning: Meaning) -> str:
    """`{"name": "The Mill", "food": "Thai"}` as "name[The Mill], food[Thai]"."""
    return ", ".join(f"{slot}[{value}]" for slot, value in meaning.items())


def with_article(phrase: str) -> str:
    """The phrase behind "a" or "an"."""
    vowel = phrase[:1].lower() in "aeiou8" and not phrase.lower().startswith(("one", "uni", "eu"))
    return f"{'an' if vowel else 'a'} {phrase}"


def capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def describe(kind: Kind, meaning: Meaning, random: Random) -> str:
    """One description that says every slot of the meaning once."""
    noun = meaning.get(kind.noun_slot or "") or random.choice(list(kind.nouns))
    used: dict[str, list[str]] = {"adjective": [], "after": [], "predicate": []}
    slots = [slot for slot in meaning if slot not in ("name", kind.noun_slot)]
    random.shuffle(slots)
    for slot in slots:
        form = _choose_form(kind.slots[slot], meaning[slot], used, random)
        used[form].append(random.choice(kind.slots[slot].said(meaning[slot], form)))
    parts = Parts(meaning["name"], used["adjective"], noun, used["after"], used["predicate"])
    opening = random.choice([*_OPENINGS, *kind.openings])
    sentences = [opening(parts, random), *_further(parts, kind, random)]
    return " ".join(capitalised(sentence) + "." for sentence in sentences)


def _choose_form(slot: Slot, value: str, used: Mapping[str, list[str]], random: Random) -> str:
    """A form that the value has; at most two adjectives and two phrases after the noun are used."""
    forms = [form for form in used if slot.said(value, form)]
    open_forms = [form for form in forms if form == "predicate" or len(used[form]) < 2]
    return random.choice(open_forms or forms)


def _is(parts: Parts, random: Random) -> str:
    return f"{parts.name} is {parts.full}"


def _there_is(parts: Parts, random: Random) -> str:
    return f"there is {parts.phrase} {random.choice(['called', 'named'])} {' '.join([parts.name, *parts.after])}"


def _called(parts: Parts, random: Random) -> str:
    if not parts.after:
        return f"this is {parts.name}, {parts.phrase}"
    return f"{parts.full} is {parts.name}"


def _apposition(parts: Parts, random: Random) -> str:
    if not parts.predicates:
        return f"{parts.name} is {parts.full}"
    return f"{parts.name}, {parts.full}, {parts.predicates.pop()}"


def _noun_first(parts: Parts, random: Random) -> str:
    if not parts.predicates:
        return _is(parts, random)
    return f"the {' '.join([parts.bare, parts.name, *parts.after])} {parts.predicates.pop()}"


_OPENINGS: tuple[Opening, ...] = (_is, _is, _there_is, _called, _apposition, _noun_first)


def _further(parts: Parts, kind: Kind, random: Random) -> list[str]:
    """The predicates that are left, one to three a sentence."""
    left, sentences = list(parts.predicates), []
    while left:
        count = min(random.choice((1, 2, 2, 3)), len(left))
        subject = random.choice([*kind.pronouns, *kind.pronouns, f"the {parts.noun}", parts.name])
        sentences.append(f"{subject} {joined(left[:count])}")
        left = left[count:]
    return sentences
