"""Synthetic restaurants with the slots of the E2E data (Novikova et al. 2017): the default data of the e2e task.

Phrases, templates and names were written for this project; no text comes from the E2E data. The bundled base
`gpt-mini` was pretrained on descriptions of other things, but not of restaurants.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tasks.language.data.templates import Kind, Parts, Phrases, Slot, describe, joined

NAMES = (
    "Amber Spoon", "Bella Cucina", "Birchwood Table", "Blue Kettle", "Captain's Plate", "Cinnamon Street",
    "Corner Oven", "Dragon Gate", "Elm & Ember", "Fennel House", "Five Lamps", "Garden of Spice", "Harbour Lights",
    "Hungry Otter", "Juniper Hall", "King's Ladle", "La Petite Olive", "Lantern Court", "Mango Tree", "Marble Arch",
    "Nonna Rosa", "Old Copper Pot", "Paper Crane", "Pear Orchard", "Red Pepper", "River Stone", "Saffron Garden",
    "Salt and Thyme", "Seven Stools", "Silver Fork", "The Brass Bell", "The Green Goose", "The Lucky Noodle",
    "The Painted Door", "The Quiet Pint", "The Velvet Cup", "Tiger Lily", "Two Cooks", "Willow Kitchen", "Zest",
)  # fmt: skip
NEW_NAMES = (  # in validation and test only, so that copying is tested too
    "Bay Leaf", "Chez Margot", "Clover & Crumb", "Golden Whisk", "Jade Bowl", "Mill Lane Larder", "Nutmeg",
    "Olive & Ash", "The Drowsy Fox", "The Iron Skillet", "The Tin Teapot", "Vine Yard",
)  # fmt: skip
NEIGHBOURS = (
    "Albert Hall", "Baker's Bridge", "Central Library", "City Museum", "Fountain Square", "Grand Cinema",
    "Hotel Meridian", "King Street Market", "Linden Park", "Old Post Office", "Opera House", "Queen's Theatre",
    "Rose Gardens", "Saint Mary's Church", "Station Plaza", "The Clock Tower", "Town Hall", "Victoria Baths",
)  # fmt: skip
NEW_NEIGHBOURS = ("Bishop's Gate", "Harlow Gallery", "North Pier", "The Botanic Garden", "Union Stadium")

FOODS = ("Chinese", "English", "French", "Indian", "Italian", "Japanese")
_FOOD = Phrases(
    "{}",
    "serving {} food|that serves {} food|with {} cuisine|offering {} dishes",
    "serves {} food|offers {} dishes|specialises in {} cuisine|has {} food on the menu",
)
_SCORE = Phrases(
    "",
    "rated {}|with a customer rating of {}|that customers rate {}",
    "has a customer rating of {}|is rated {} by its customers|was given {} by customers",
)
_LEVEL = "with a {} customer rating|with {} customer ratings", "has a {} customer rating|has {} ratings from customers"
SLOTS = {
    "eatType": Slot(("coffee shop", "pub", "restaurant")),
    "food": Slot({food: _FOOD for food in FOODS} | {"Fast food": Phrases(
        "fast food", "serving fast food|that serves fast food", "serves fast food|has fast food on the menu",
    )}),
    "priceRange": Slot({
        "cheap": Phrases("cheap|low-priced|inexpensive", "in the cheap price range|with low prices",
                         "is cheap|has low prices|is in the cheap price range"),
        "moderate": Phrases("moderately priced|mid-priced", "in the moderate price range|with moderate prices",
                            "is moderately priced|has moderate prices|is in the moderate price range"),
        "high": Phrases("expensive|high-priced|pricey", "in the high price range|with high prices",
                        "is expensive|has high prices|is in the high price range"),
        "less than £20": Phrases("", "where meals cost less than £20|in the price range of less than £20",
                                 "costs less than £20|has meals for less than £20"),
        "£20-25": Phrases("", "where meals cost £20-25|in the £20-25 price range",
                          "costs £20-25|has meals for £20-25"),
        "more than £30": Phrases("", "where meals cost more than £30|in the price range of more than £30",
                                 "costs more than £30|has meals for more than £30"),
    }),
    "customer rating": Slot({
        "low": Phrases("poorly rated|low-rated", *(form.replace("{}", "low") for form in _LEVEL)),
        "average": Phrases("average-rated",
                           *(form.replace("a {}", "an {}").replace("{}", "average") for form in _LEVEL)),
        "high": Phrases("highly rated|well-rated", *(form.replace("{}", "high") for form in _LEVEL)),
        **{f"{n} out of 5": _SCORE for n in (1, 3, 5)},
    }),
    "area": Slot({
        "riverside": Phrases("riverside", "by the river|in the riverside area|on the riverside",
                             "lies by the river|is in the riverside area|sits on the riverside"),
        "city centre": Phrases("city centre", "in the city centre|in the centre of the city",
                               "is in the city centre|lies in the centre of the city"),
    }),
    "familyFriendly": Slot({
        "yes": Phrases("family-friendly|child-friendly|kid-friendly",
                       "where families are welcome|that welcomes families",
                       "is family-friendly|welcomes families|is kid-friendly|is child-friendly"),
        "no": Phrases("", "that is not family-friendly|where families are not welcome|that is not child-friendly",
                      "is not family-friendly|does not welcome families|is not kid-friendly|is not child-friendly"),
    }),
    "near": Slot(NEIGHBOURS + NEW_NEIGHBOURS, Phrases(
        "", "near {}|close to {}|a short walk from {}|around the corner from {}",
        "is near {}|is close to {}|is a short walk from {}|can be found near {}",
    )),
}  # fmt: skip


def _looking_for(parts: Parts, random: Random) -> str:
    return f"if you are looking for {parts.full}, try {parts.name}"


def _visit(parts: Parts, random: Random) -> str:
    return f"for {parts.full}, {random.choice(['visit', 'go to', 'head to'])} {parts.name}"


def _you_will_find(parts: Parts, random: Random) -> str:
    if not parts.predicates:
        return f"{parts.name} is the name of {parts.full}"
    taken = [parts.predicates.pop() for _ in range(min(2, len(parts.predicates)))]
    return f"you will find that {parts.name}, {parts.full}, {joined(taken)}"


RESTAURANT = Kind(
    ("place", "venue"),
    SLOTS,
    lambda random: random.choice(NAMES),
    noun_slot="eatType",
    openings=(_looking_for, _visit, _you_will_find) * 2,
)


def draw_meaning(random: Random, new_share: float = 0.0) -> dict[str, str]:
    """A meaning of three to eight slots in the E2E data's order; `new_share` of the names are not used in training."""
    chosen = set(random.sample(list(SLOTS), random.choices(range(2, 8), (1, 3, 5, 6, 5, 3))[0]))
    meaning = {"name": random.choice(_pool(random, NAMES, NEW_NAMES, new_share))}
    for slot in SLOTS:
        if slot == "near" and slot in chosen:
            meaning[slot] = random.choice(_pool(random, NEIGHBOURS, NEW_NEIGHBOURS, new_share))
        elif slot in chosen:
            meaning[slot] = random.choice(list(SLOTS[slot].values))
    return meaning


def _pool(random: Random, known: Sequence[str], new: Sequence[str], new_share: float) -> Sequence[str]:
    return new if random.random() < new_share else known


def distinct_meanings(count: int, seed: int, new_share: float, taken: set[tuple]) -> list[dict[str, str]]:
    """Draw `count` meanings that are not in `taken`, and add them to it."""
    meanings: list[dict[str, str]] = []
    random = Random(f"restaurants {seed}")
    while len(meanings) < count:
        meaning = draw_meaning(random, new_share)
        key = tuple(meaning.items())
        if key not in taken:
            taken.add(key)
            meanings.append(meaning)
    return meanings


def references(meaning: dict[str, str], count: int, seed: int) -> list[str]:
    """Up to `count` distinct descriptions of one meaning."""
    random = Random(f"references {seed} {tuple(meaning.items())}")
    return list(dict.fromkeys(describe(RESTAURANT, meaning, random) for _ in range(count)))
