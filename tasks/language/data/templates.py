"""Templates that turn attributes into everyday English, for any kind of thing.

A `Kind` (hotels, films, restaurants, ...) has slots. Each value of a slot can be expressed as an adjective before the
noun, as a phrase after it, or as a predicate; `describe` chooses at random. The same attributes on one line,
"name[The Mill], area[riverside]", are the meaning representation (MR) of the E2E data (Novikova et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tasks.english import capitalised, with_article

Meaning = Mapping[str, str]  # slot to value, in order, including "name"
Opening = Callable[["Parts", Random], str]


@dataclass(frozen=True)
class Phrases:
    """Wordings of a value: "{}" is the value, "|" separates alternatives, and an empty string means none."""

    adjective: str = ""  # "a {} hotel"
    after: str = ""  # "a hotel {}"
    predicate: str = ""  # "it {}"

    def forms(self, form: str) -> list[str]:
        text = getattr(self, form)
        return text.split("|") if text else []


@dataclass(frozen=True)
class Slot:
    """A slot's values: a sequence that shares `phrases`, or a mapping from value to its own phrases."""

    values: Sequence[str] | Mapping[str, Phrases]
    phrases: Phrases = Phrases()

    def wordings(self, value: str, form: str) -> list[str]:
        own = self.values.get(value, self.phrases) if isinstance(self.values, Mapping) else self.phrases
        return [phrase.replace("{}", value) for phrase in own.forms(form)]


@dataclass(frozen=True)
class Kind:
    """A kind of thing: its nouns (or `noun_slot`, the slot whose value is the noun), its slots and how it is named."""

    nouns: Sequence[str]
    slots: Mapping[str, Slot]
    name: Callable[[Random], str]
    pronouns: Sequence[str] = ("it",)
    noun_slot: str | None = None
    openings: Sequence[Opening] = ()

    def draw(self, random: Random, least: int = 2, most: int = 6) -> dict[str, str]:
        """Draw a meaning: `least` to `most` slots in random order, and the name, usually first."""
        count = min(random.randint(least, most), len(self.slots))
        chosen = random.sample(list(self.slots), count)
        meaning = {slot: random.choice(list(self.slots[slot].values)) for slot in chosen}
        position = 0 if random.random() < 0.8 else random.randint(0, count)
        pairs = list(meaning.items())
        return dict([*pairs[:position], ("name", self.name(random)), *pairs[position:]])


@dataclass(frozen=True)
class Parts:
    """Material for the first sentence; predicates that it does not use go into further sentences."""

    name: str
    adjectives: list[str]
    noun: str
    after: list[str]
    predicates: list[str]

    @property
    def bare(self) -> str:
        """The noun with its adjectives, without an article."""
        return " ".join([*self.adjectives, self.noun])

    @property
    def phrase(self) -> str:
        return with_article(self.bare)

    @property
    def full(self) -> str:
        return " ".join([self.phrase, *self.after])


def format_meaning(meaning: Meaning) -> str:
    """`{"name": "The Mill", "food": "Thai"}` as "name[The Mill], food[Thai]"."""
    return ", ".join(f"{slot}[{value}]" for slot, value in meaning.items())


def joined(parts: Sequence[str]) -> str:
    """Join as "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def describe(kind: Kind, meaning: Meaning, random: Random) -> str:
    """Draw one description that mentions every slot of the meaning once."""
    noun = meaning.get(kind.noun_slot or "") or random.choice(list(kind.nouns))
    used: dict[str, list[str]] = {"adjective": [], "after": [], "predicate": []}
    slots = [slot for slot in meaning if slot not in ("name", kind.noun_slot)]
    random.shuffle(slots)
    for slot in slots:
        form = _choose_form(kind.slots[slot], meaning[slot], used, random)
        used[form].append(random.choice(kind.slots[slot].wordings(meaning[slot], form)))
    parts = Parts(meaning["name"], used["adjective"], noun, used["after"], used["predicate"])
    opening = random.choice([*_OPENINGS, *kind.openings])
    sentences = [opening(parts, random), *_further(parts, kind, random)]
    return " ".join(capitalised(sentence) + "." for sentence in sentences)


def _choose_form(slot: Slot, value: str, used: Mapping[str, list[str]], random: Random) -> str:
    """Choose a form that the value has, with at most two adjectives and two phrases after the noun if possible."""
    forms = [form for form in used if slot.wordings(value, form)]
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
    """Sentences for the remaining predicates, one to three in each."""
    left, sentences = list(parts.predicates), []
    while left:
        count = min(random.choice((1, 2, 2, 3)), len(left))
        subject = random.choice([*kind.pronouns, *kind.pronouns, f"the {parts.noun}", parts.name])
        sentences.append(f"{subject} {joined(left[:count])}")
        left = left[count:]
    return sentences
