"""Synthetic restaurants: exact by the slot patterns, disjoint splits, reproducible from a seed."""

from random import Random

import pytest

from tasks.bundled.text_domains import KINDS
from tasks.language.data import restaurants
from tasks.language.data.e2e_data import load
from tasks.language.data.meanings import parse_meaning
from tasks.language.data.templates import describe, format_meaning
from tasks.language.metrics.slot_error_rate import SlotErrors, slot_errors
from tasks.language.metrics.slot_patterns import known_names

MEANING = {"name": "Zest", "eatType": "pub", "food": "French", "familyFriendly": "no", "near": "Linden Park"}
NAMES = known_names([MEANING, {"name": "Nutmeg", "near": "Town Hall"}])


@pytest.fixture(scope="module")
def splits():
    return load("restaurants", 150, 40)


def test_every_reference_mentions_its_slots_and_no_other(splits):
    items = [*splits.train, *splits.validation, *splits.test]
    names = known_names(item.meaning for item in items)
    for item in items:
        for reference in item.references:
            expected = SlotErrors(right=len(item.meaning), wrong=0, missing=0, added=0)
            assert slot_errors(item.meaning, reference, names) == expected, (item.line, reference)


def test_the_patterns_match_every_wording():
    names = known_names([])
    for slot, spec in restaurants.SLOTS.items():
        for value in spec.values:
            for form in ("adjective", "after", "predicate"):
                for phrase in spec.wordings(value, form) if slot != "near" else ():
                    assert slot_errors({slot: value}, phrase, names) == SlotErrors(1, 0, 0, 0), phrase


def test_splits_are_disjoint_and_test_has_new_names(splits):
    everything = [*splits.train, *splits.validation, *splits.test]
    assert len({item.line for item in everything}) == len(everything)
    assert {item.meaning["name"] for item in splits.train} <= set(restaurants.NAMES)
    assert {item.meaning["name"] for item in splits.test} & set(restaurants.NEW_NAMES)


def test_a_seed_reproduces_the_draw():
    first, again, other = (restaurants.distinct_meanings(20, seed, 0.3, set()) for seed in (1, 1, 2))
    assert first == again != other
    assert restaurants.references(first[0], 4, 1) == restaurants.references(first[0], 4, 1)


def test_most_test_meanings_have_several_references(splits):
    assert sum(len(set(item.references)) > 2 for item in splits.test) > 0.9 * len(splits.test)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zest is a French pub near Linden Park that is not family-friendly.", SlotErrors(5, 0, 0, 0)),
        ("Zest is a French pub near Linden Park that is family-friendly.", SlotErrors(4, 1, 0, 0)),
        ("Zest is a pub near Linden Park.", SlotErrors(3, 0, 2, 0)),
        ("Zest is a cheap French pub near Linden Park. It is not family-friendly.", SlotErrors(5, 0, 0, 1)),
        ("Nutmeg is a French pub near Town Hall that is not family-friendly.", SlotErrors(3, 2, 0, 0)),
        ("Zest is a French restaurant and pub near Linden Park, not family-friendly.", SlotErrors(4, 1, 0, 0)),
        ("", SlotErrors(0, 0, 5, 0)),
    ],
)
def test_slot_errors_by_hand(text, expected):
    assert slot_errors(MEANING, text, NAMES) == expected


def test_slot_errors_of_human_wordings():
    meaning = {"name": "Zest", "customer rating": "5 out of 5", "area": "riverside", "familyFriendly": "yes"}
    text = "Zest, a five star kid friendly place on the banks of the river."
    assert slot_errors(meaning, text, NAMES) == SlotErrors(4, 0, 0, 0)


def test_the_bases_pretraining_data_describe_no_restaurants():
    random = Random(0)
    for kind in KINDS.values():
        for _ in range(50):
            meaning = kind.draw(random)
            text = describe(kind, meaning, random)
            assert parse_meaning(format_meaning(meaning)) == meaning
            assert meaning["name"] in text
            assert not any(word in text.lower() for word in ("restaurant", "pub ", "coffee shop", "cuisine"))
            assert not {"food", "eatType", "near", "customer rating", "priceRange"} & meaning.keys()
